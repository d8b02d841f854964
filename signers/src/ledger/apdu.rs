//! Commands and status words of the Ethereum app.

use super::problem::DeviceProblem;

/// What one command carries at most.
pub(super) const MAX_DATA: usize = 255;

/// The command went well.
const DONE: u16 = 0x9000;
/// The app does not know the command.
pub(super) const UNKNOWN_COMMAND: u16 = 0x6d00;

/// Status words of our own pipe ([`super::pipe`]). No device uses the range: theirs start with 5, 6, 9 or b.
pub(super) mod pipe_status {
    pub const ABSENT: u16 = 0x0d01;
    pub const BUSY: u16 = 0x0d02;
    pub const UNPLUGGED: u16 = 0x0d03;
    pub const NO_USB: u16 = 0x0d04;
    pub const NOT_ALLOWED: u16 = 0x0d05;
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Apdu {
    class: u8,
    instruction: u8,
    p1: u8,
    p2: u8,
    data: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub data: Vec<u8>,
    pub status: u16,
}

impl Apdu {
    /// `data` has at most [`MAX_DATA`] bytes: what is longer goes through [`chunks`].
    fn new([class, instruction, p1, p2]: [u8; 4], data: Vec<u8>) -> Self {
        debug_assert!(data.len() <= MAX_DATA);
        Self { class, instruction, p1, p2, data }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.class, self.instruction, self.p1, self.p2, self.data.len() as u8];
        bytes.extend(&self.data);
        bytes
    }
}

/// Which app is open, and its version.
pub(super) fn app_and_version() -> Apdu {
    Apdu::new([0xb0, 0x01, 0, 0], Vec::new())
}

/// The app's settings.
pub(super) fn configuration() -> Apdu {
    Apdu::new([0xe0, 0x06, 0, 0], Vec::new())
}

/// The account at a path, without showing it.
pub(super) fn address(path: Vec<u8>) -> Apdu {
    Apdu::new([0xe0, 0x02, 0, 0], path)
}

/// Defines a struct (`field` false: its name) or a field of the last defined struct.
pub(super) fn struct_definition(field: bool, data: Vec<u8>) -> Apdu {
    Apdu::new([0xe0, 0x1a, 0, if field { 0xff } else { 0 }], data)
}

/// Begins a struct's values (`field` false: its name) or gives the next value.
pub(super) fn struct_value(field: bool, data: Vec<u8>) -> Apdu {
    Apdu::new([0xe0, 0x1c, 0, if field { 0xff } else { 0 }], data)
}

/// Signs the message whose fields were given.
pub(super) fn sign_typed(path: Vec<u8>) -> Apdu {
    Apdu::new([0xe0, 0x0c, 0, 1], path)
}

/// Signs a message of which the device learns the two hashes only.
pub(super) fn sign_hashes(mut path: Vec<u8>, domain: [u8; 32], message: [u8; 32]) -> Apdu {
    path.extend(domain);
    path.extend(message);
    Apdu::new([0xe0, 0x0c, 0, 0], path)
}

/// Signs a transaction: the path and its bytes, in as many commands as that takes.
pub(super) fn sign_transaction(mut path: Vec<u8>, transaction: &[u8]) -> Vec<Apdu> {
    path.extend(transaction);
    path.chunks(MAX_DATA)
        .enumerate()
        .map(|(n, chunk)| Apdu::new([0xe0, 0x04, if n == 0 { 0 } else { 0x80 }, 0], chunk.to_vec()))
        .collect()
}

impl Answer {
    /// The data, where the command went well.
    pub fn data(self) -> Result<Vec<u8>, DeviceProblem> {
        if self.status == DONE { Ok(self.data) } else { Err(problem(self.status)) }
    }

    /// Nothing but that the command went well.
    pub fn nothing(self) -> Result<(), DeviceProblem> {
        let data = self.data()?;
        if data.is_empty() {
            Ok(())
        } else {
            Err(DeviceProblem::garbled(format!("{} bytes where none belong", data.len())))
        }
    }
}

/// What a status means once the Ethereum app is known to be open.
fn problem(status: u16) -> DeviceProblem {
    match status {
        0x6985 | 0x5501 => DeviceProblem::Rejected,
        // Also for malformed data, which we do not send.
        0x6a80 | 0x6984 => DeviceProblem::BlindSigningOff,
        0x5515 | 0x6804 | 0x6982 => DeviceProblem::Locked,
        0x6e00 | UNKNOWN_COMMAND => DeviceProblem::WrongApp { open: "another app".into() },
        pipe_status::ABSENT => DeviceProblem::Absent,
        pipe_status::BUSY => DeviceProblem::Busy,
        pipe_status::UNPLUGGED => DeviceProblem::Unplugged,
        pipe_status::NOT_ALLOWED => DeviceProblem::NotAllowed,
        pipe_status::NO_USB => DeviceProblem::NoUsb { problem: "the system has none".into() },
        _ => DeviceProblem::Status { status },
    }
}
