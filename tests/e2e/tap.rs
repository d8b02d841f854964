//! Everything that leaves a process, recorded where it comes out, and searched for secrets in every way they are written.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use alloy::hex;
use alloy::primitives::U256;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// What came out, by where. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tap(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Tap {
    /// Some bytes that came out there.
    pub fn add(&self, place: &str, bytes: impl AsRef<[u8]>) {
        self.0.lock().unwrap().entry(place.to_owned()).or_default().extend_from_slice(bytes.as_ref());
    }

    /// Every file of a folder, by name; a socket has no content.
    pub fn folder(&self, place: &str, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.folder(place, &path);
            } else if path.is_file() {
                self.add(place, path.display().to_string());
                self.add(place, std::fs::read(&path).unwrap());
            }
        }
    }

    /// A TCP port in front of `target`; what passes through it, in both directions, is recorded. Gives `host:port`.
    pub async fn tcp(&self, place: &str, target: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tap, place, target) = (self.clone(), place.to_owned(), target.to_owned());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // A target that is gone is one that refuses.
                if let Ok(far) = TcpStream::connect(&target).await {
                    let (near, far) = (near.into_split(), far.into_split());
                    tap.pass(&place, near.0, far.1);
                    tap.pass(&place, far.0, near.1);
                }
            }
        });
        address
    }

    /// The same in front of an HTTP server: its URL with our port.
    pub async fn http(&self, place: &str, url: &str) -> String {
        let mut url: reqwest::Url = url.parse().unwrap();
        let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
        let (_, port) =
            self.tcp(place, &target).await.rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        url.set_port(Some(port.parse().unwrap())).unwrap();
        url.to_string()
    }

    /// Takes the place of a socket that somebody listens on.
    pub fn socket(&self, place: &str, path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        let behind = path.with_extension("b");
        std::fs::rename(path, &behind).unwrap();
        let listener = UnixListener::bind(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (tap, place) = (self.clone(), place.to_owned());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if let Ok(far) = UnixStream::connect(&behind).await {
                    let (near, far) = (near.into_split(), far.into_split());
                    tap.pass(&place, near.0, far.1);
                    tap.pass(&place, far.0, near.1);
                }
            }
        });
    }

    fn pass(
        &self,
        place: &str,
        mut from: impl AsyncRead + Unpin + Send + 'static,
        mut to: impl AsyncWrite + Unpin + Send + 'static,
    ) {
        let (tap, place) = (self.clone(), place.to_owned());
        tokio::spawn(async move {
            let mut part = vec![0; 1 << 16];
            while let Ok(read @ 1..) = from.read(&mut part).await {
                tap.add(&place, &part[..read]);
                if to.write_all(&part[..read]).await.is_err() {
                    break;
                }
            }
            let _ = to.shutdown().await;
        });
    }

    /// The text that came out there.
    pub fn text(&self, place: &str) -> String {
        String::from_utf8_lossy(self.0.lock().unwrap().get(place).map_or(&[][..], Vec::as_slice)).into_owned()
    }

    /// Whether these bytes came out there: shows that the right place is looked at.
    pub fn saw(&self, place: &str, bytes: impl AsRef<[u8]>) -> bool {
        let seen = self.0.lock().unwrap();
        seen.get(place).is_some_and(|seen| spelled(seen).contains(&spelled(bytes.as_ref())))
    }

    /// Where any form of a secret came out: which one, in which form, and what stands before it.
    pub fn search(&self, secrets: &[Marker]) -> Vec<String> {
        let mut found = Vec::new();
        for (place, bytes) in self.0.lock().unwrap().iter() {
            let text = spelled(bytes);
            for secret in secrets {
                for (form, needle) in &secret.forms {
                    if let Some(at) = text.find(needle.as_str()) {
                        let before: String = text[..at].chars().rev().take(120).collect();
                        let before: String = before.chars().rev().collect();
                        found.push(format!("{} as {form} in {place}, after {before:?}", secret.name));
                    }
                }
            }
        }
        found
    }
}

/// Each byte as a character, since the search of a text is quick where that of bytes is not.
fn spelled(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A secret in every form that is searched for.
pub struct Marker {
    name: &'static str,
    forms: Vec<(String, String)>,
}

impl Marker {
    /// A secret of 32 bytes: whole and its halves, since one half is nearly as good as both.
    pub fn key(name: &'static str, key: &[u8; 32]) -> Self {
        let mut forms = written("whole", key);
        forms.extend(written("first half", &key[..16]));
        forms.extend(written("second half", &key[16..]));
        Self { name, forms }
    }

    /// A secret text.
    pub fn text(name: &'static str, text: &str) -> Self {
        let mut forms = written("text", text.as_bytes());
        // As a URL or a form carries it.
        forms.push(("text with +".into(), text.replace(' ', "+")));
        forms.push(("text with %20".into(), text.replace(' ', "%20")));
        Self { name, forms }
    }

    /// Any other bytes.
    pub fn bytes(name: &'static str, bytes: &[u8]) -> Self {
        Self { name, forms: written("bytes", bytes) }
    }
}

fn written(what: &str, bytes: &[u8]) -> Vec<(String, String)> {
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    let mut forms = Vec::new();
    for (order, bytes) in [("", bytes), (" reversed", &reversed)] {
        let mut push = |form: &str, text: String| forms.push((format!("{what}{order} {form}"), text));
        push("raw", spelled(bytes));
        push("hex", hex::encode(bytes));
        push("HEX", hex::encode_upper(bytes));
        let list = |gap: &str| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(gap);
        push("bytes", list(", "));
        push("packed bytes", list(","));
        if bytes.len() <= 32 {
            push("decimal", U256::from_be_slice(bytes).to_string());
        }
        for (alphabet, engine) in [("base64", STANDARD), ("base64url", URL_SAFE)] {
            for shift in 0..3 {
                // Only the characters that no neighbour changes: whole groups of three bytes.
                let start = (3 - shift) % 3;
                let inner = &bytes[start..start + (bytes.len() - start) / 3 * 3];
                push(&format!("{alphabet} at {shift}"), engine.encode(inner));
            }
        }
    }
    // A text of the same letters in both cases is searched for once.
    forms.dedup_by(|a, b| a.1 == b.1);
    forms
}

/// Every form is found wherever it stands, and what is not there is not.
#[test]
fn m12_every_form_of_a_secret_is_found() {
    let key = *alloy::primitives::keccak256("a marker");
    let other = *alloy::primitives::keccak256("another");
    let markers = [Marker::key("key", &key), Marker::text("words", "correct horse battery")];
    let reversed: Vec<u8> = key.iter().rev().copied().collect();
    let mut leaks: Vec<Vec<u8>> = vec![
        key.to_vec(),
        reversed.clone(),
        hex::encode(key).into(),
        format!("0x{}", hex::encode_upper(key)).into(),
        hex::encode(&reversed).into(),
        U256::from_be_bytes(key).to_string().into(),
        U256::from_le_bytes(key).to_string().into(),
        format!("{key:?}").into(),
        serde_json::to_vec(&key).unwrap(),
        hex::encode(&key[16..]).into(),
        b"correct+horse+battery".to_vec(),
        hex::encode("correct horse battery").into(),
    ];
    for lead in ["", "x", "xy", "xyz"] {
        for tail in ["", "z", "zz"] {
            for secret in [key.as_slice(), b"correct horse battery"] {
                let text = [lead.as_bytes(), secret, tail.as_bytes()].concat();
                leaks.push(STANDARD.encode(&text).into());
                leaks.push(URL_SAFE.encode(&text).into());
            }
        }
    }
    for leak in leaks {
        let tap = Tap::default();
        tap.add("a header", [b"GET / HTTP/1.1\r\nx: ".as_slice(), &leak, b"\r\n\r\n"].concat());
        assert!(!tap.search(&markers).is_empty(), "{}", String::from_utf8_lossy(&leak));
        assert_eq!(tap.search(&[Marker::key("other", &other)]), Vec::<String>::new());
    }
}
