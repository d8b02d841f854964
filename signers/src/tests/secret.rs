//! What is a private key, and what its errors keep to themselves.

use super::fixtures::KEY;
use crate::{Secret, SignerError};

#[test]
fn reads_what_people_paste() {
    for text in [
        KEY.to_owned(),
        format!("0x{KEY}"),
        format!("0X{KEY}"),
        KEY.to_uppercase(),
        format!("  0x{KEY}\r\n"),
        format!("\u{feff}{KEY}\n"),
        format!("\n\t\u{feff} {KEY}\u{a0}"),
    ] {
        let address = Secret::parse(&text).map(|s| s.address().to_string());
        assert_eq!(address.as_deref(), Ok("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"), "{text:?}");
    }
}

#[test]
fn refuses_the_rest_without_repeating_it() {
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    for text in [
        "".to_owned(),
        "0x".into(),
        " \n".into(),
        "0".repeat(64),
        order.into(),
        "f".repeat(64),
        KEY[1..].into(),
        format!("{KEY}0"),
        format!("0x0x{KEY}"),
        format!("0x{}", &KEY[2..]),
        format!("{} {}", &KEY[..32], &KEY[32..]),
        format!("{}\n{}", &KEY[..32], &KEY[33..]),
        format!("{}g", &KEY[1..]),
        format!("{}é", &KEY[2..]),
        format!("\"{KEY}\""),
        "test test test test test test test test test test test junk".into(),
    ] {
        let error = Secret::parse(&text).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "invalid_key", "{text:?}");
        let shown = format!("{error} {error:?}");
        assert!(text.trim().len() < 8 || !shown.contains(&text.trim()[..8]), "{shown}");
    }
}

#[test]
fn the_ends_of_the_range_are_keys() {
    let last = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140";
    assert!(Secret::parse(last).is_ok());
    assert!(Secret::parse(&format!("{:064x}", 1)).is_ok());
    assert!(matches!(Secret::from_bytes(&[0; 32]), Err(SignerError::InvalidKey { .. })));
}
