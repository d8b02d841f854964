//! A message that comes field by field: the device hashes it by itself.

use alloy::primitives::{B256, keccak256};

/// A field's type, as far as our messages need types.
#[derive(Clone, Copy, Debug)]
enum Type {
    Text,
    Uint256,
    Address,
    Bytes32,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Uint256 => "uint256",
            Self::Address => "address",
            Self::Bytes32 => "bytes32",
        }
    }
}

#[derive(Clone, Debug)]
struct Definition {
    name: String,
    fields: Vec<(Type, String)>,
}

/// What was told so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    definitions: Vec<Definition>,
    /// Struct and values, in the order told.
    values: Vec<(String, Vec<Vec<u8>>)>,
}

impl Message {
    /// A struct's name. The first one begins a new message.
    pub fn define(&mut self, name: &[u8]) -> Option<()> {
        if !self.values.is_empty() {
            *self = Self::default();
        }
        self.definitions.push(Definition { name: text(name)?, fields: Vec::new() });
        Some(())
    }

    /// A field of the struct defined last: kind, size where there is one, name.
    pub fn field(&mut self, data: &[u8]) -> Option<()> {
        let (kind, rest) = match data {
            [5, rest @ ..] => (Type::Text, rest),
            [3, rest @ ..] => (Type::Address, rest),
            [0x42, 32, rest @ ..] => (Type::Uint256, rest),
            [0x46, 32, rest @ ..] => (Type::Bytes32, rest),
            _ => return None,
        };
        let (length, name) = rest.split_first()?;
        if usize::from(*length) != name.len() {
            return None;
        }
        self.definitions.last_mut()?.fields.push((kind, text(name)?));
        Some(())
    }

    /// Begins the values of a struct.
    pub fn begin(&mut self, name: &[u8]) -> Option<()> {
        let name = text(name)?;
        self.definition(&name)?;
        if self.values.len() >= 2 {
            return None;
        }
        self.values.push((name, Vec::new()));
        Some(())
    }

    /// The next value: its length in two bytes, then itself.
    pub fn value(&mut self, data: &[u8]) -> Option<()> {
        let (length, value) = data.split_first_chunk::<2>()?;
        if usize::from(u16::from_be_bytes(*length)) != value.len() {
            return None;
        }
        self.values.last_mut()?.1.push(value.to_vec());
        Some(())
    }

    /// Hash of the domain, hash of the message, once both are whole.
    pub fn hashes(&self) -> Option<(B256, B256)> {
        match &self.values[..] {
            [domain, message] if domain.0 == "EIP712Domain" => Some((self.hash(domain)?, self.hash(message)?)),
            _ => None,
        }
    }

    /// Names and values of the domain (0) or the message (1), for the screen.
    pub fn shown(&self, which: usize) -> Vec<String> {
        let Some((name, values)) = self.values.get(which) else { return Vec::new() };
        let Some(definition) = self.definition(name) else { return Vec::new() };
        let line = |((kind, name), value): (&(Type, String), &Vec<u8>)| {
            let shown = match kind {
                Type::Text => String::from_utf8_lossy(value).into_owned(),
                Type::Address if value.len() == 20 => alloy::primitives::Address::from_slice(value).to_string(),
                Type::Uint256 if value.len() <= 32 => alloy::primitives::U256::from_be_slice(value).to_string(),
                _ => format!("0x{}", alloy::hex::encode(value)),
            };
            format!("{name} {shown}")
        };
        definition.fields.iter().zip(values).map(line).collect()
    }

    fn definition(&self, name: &str) -> Option<&Definition> {
        self.definitions.iter().find(|d| d.name == name)
    }

    fn hash(&self, (name, values): &(String, Vec<Vec<u8>>)) -> Option<B256> {
        let Definition { fields, .. } = self.definition(name)?;
        if fields.len() != values.len() {
            return None;
        }
        let list: Vec<String> = fields.iter().map(|(kind, name)| format!("{} {name}", kind.name())).collect();
        let mut encoded = keccak256(format!("{name}({})", list.join(","))).to_vec();
        for ((kind, _), value) in fields.iter().zip(values) {
            match kind {
                Type::Text => encoded.extend(keccak256(value)),
                Type::Bytes32 if value.len() == 32 => encoded.extend(value),
                Type::Address if value.len() == 20 => encoded.extend(B256::left_padding_from(value)),
                Type::Uint256 if (1..=32).contains(&value.len()) => encoded.extend(B256::left_padding_from(value)),
                _ => return None,
            }
        }
        Some(keccak256(encoded))
    }
}

/// The hash that is signed.
pub(super) fn digest(domain: B256, message: B256) -> B256 {
    keccak256([&[0x19, 0x01][..], domain.as_slice(), message.as_slice()].concat())
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}
