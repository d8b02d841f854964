//! Recovery phrases, held to what other wallets derive.

use crate::phrase::{key_from_phrase, new_phrase};

const JUNK: &str = "test test test test test test test test test test test junk";

#[test]
fn known_accounts() {
    for (phrase, index, address) in [
        (JUNK, 0, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
        (JUNK, 1, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        (&JUNK.replace(' ', " \n  ").to_uppercase(), 0, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
        (
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
            0,
            "0x9858EfFD232B4033E47d90003D41EC34EcaEda94",
        ),
    ] {
        assert_eq!(key_from_phrase(phrase, index).unwrap().address().to_string(), address);
    }
}

#[test]
fn new_ones_are_new_and_derive() {
    let (a, b) = (new_phrase().unwrap(), new_phrase().unwrap());
    assert_ne!(a.words(), b.words());
    assert_eq!(a.words().split(' ').count(), 12);
    assert!(key_from_phrase(a.words(), 0).is_ok());
}

#[test]
fn errors_say_where_but_not_what() {
    for (phrase, problem) in [
        ("", "it has 0 words"),
        ("zebra zebra", "it has 2 words"),
        (&JUNK.replace("junk", "jumk"), "word 12 is not in the English list"),
        (&JUNK.replacen("test", "tset", 1), "word 1 is not in the English list"),
        (&JUNK.replace("junk", "zebra"), "its checksum does not fit"),
    ] {
        let error = key_from_phrase(phrase, 0).map(|_| ()).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(problem), "{shown}");
        for word in ["test", "tset", "jumk", "zebra"] {
            assert!(!shown.contains(word), "{shown}");
        }
    }
    assert_eq!(key_from_phrase(JUNK, 0x8000_0000).map(|_| ()).unwrap_err().code(), "invalid_phrase");
}
