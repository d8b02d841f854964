//! The child process that reaches a device on USB: frames on stdin, answers on stdout.
//!
//! A process of its own, because the library below panics where USB does not work, lists devices once in its life, and
//! waits for ever: killing it and starting another cures all three. It holds no key and is told nothing but commands.

use std::io::{self, Read, Write};
use std::sync::mpsc;

use alloy_signer_ledger::coins_ledger::LedgerError;
use alloy_signer_ledger::coins_ledger::common::{APDUAnswer, APDUCommand, APDUData};
use alloy_signer_ledger::coins_ledger::transports::native::NativeTransportError;
use alloy_signer_ledger::coins_ledger::transports::{Ledger, LedgerAsync};

use super::apdu::{MAX_DATA, pipe_status};
use super::usb;

/// Header, length, data.
const MAX_COMMAND: usize = 5 + MAX_DATA;

/// Serves until stdin ends, the device fails, or the parent kills it.
///
/// # Errors
///
/// Where stdout cannot be written, or there is no runtime for the library.
pub fn serve() -> io::Result<()> {
    let (sender, commands) = mpsc::channel();
    // Its own thread: the parent's end must be seen while the device waits for a press.
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while let Some(command) = read_command(&mut stdin) {
            if sender.send(command).is_err() {
                return;
            }
        }
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut device: Option<Ledger> = None;
    for command in commands {
        let answer = match open(&mut device) {
            Ok(ledger) => runtime.block_on(ledger.exchange(&command)).map_err(|e| status_of(&e)),
            Err(status) => Err(status),
        };
        write_answer(&mut io::stdout().lock(), &answer)?;
        if matches!(answer, Err(pipe_status::ABSENT..=pipe_status::NOT_ALLOWED)) {
            break;
        }
    }
    Ok(())
}

/// The device, opened at the first command. A thread takes the panic of a machine without USB.
fn open(device: &mut Option<Ledger>) -> Result<&Ledger, u16> {
    if device.is_none() {
        let opened = std::thread::spawn(|| futures::executor::block_on(Ledger::init())).join();
        *device = Some(opened.map_err(|_| pipe_status::NO_USB)?.map_err(|e| status_of(&e))?);
    }
    device.as_ref().ok_or(pipe_status::ABSENT)
}

/// The app's own status where there is one, else one of ours.
fn status_of(error: &LedgerError) -> u16 {
    match error {
        LedgerError::BadRetcode(code) => *code as u16,
        LedgerError::UnknownAPDUCode(status) => *status,
        LedgerError::NativeTransportError(NativeTransportError::DeviceNotFound) => pipe_status::ABSENT,
        LedgerError::NativeTransportError(NativeTransportError::CantOpen(_)) => {
            if usb::devices().iter().any(|device| !device.allowed) {
                pipe_status::NOT_ALLOWED
            } else {
                pipe_status::BUSY
            }
        }
        _ => pipe_status::UNPLUGGED,
    }
}

/// `None` at the end of the input, and for what is no command.
fn read_command(input: &mut impl Read) -> Option<APDUCommand> {
    let mut length = [0; 4];
    input.read_exact(&mut length).ok()?;
    let length = u32::from_be_bytes(length) as usize;
    if !(5..=MAX_COMMAND).contains(&length) {
        return None;
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).ok()?;
    let [cla, ins, p1, p2, announced, ref data @ ..] = bytes[..] else { return None };
    if usize::from(announced) != data.len() {
        return None;
    }
    // The library leaves the length away where there is no data; this byte stands in its place.
    let response_len = data.is_empty().then_some(0);
    Some(APDUCommand { cla, ins, p1, p2, data: APDUData::new(data), response_len })
}

fn write_answer(output: &mut impl Write, answer: &Result<APDUAnswer, u16>) -> io::Result<()> {
    let (data, status) = match answer {
        // With a status that the library does not know it answers, too, with all bytes.
        Ok(answer) => answer.split_last_chunk::<2>().map_or((&[][..], [0x6f, 0]), |(data, status)| (data, *status)),
        Err(status) => (&[][..], status.to_be_bytes()),
    };
    output.write_all(&(data.len() as u32).to_be_bytes())?;
    output.write_all(data)?;
    output.write_all(&status)?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_goes_on_as_it_came() {
        for hex in ["b001000000", "e006000000", "e01a00ff0605046e616d65"] {
            let bytes = alloy::hex::decode(hex).unwrap();
            let frame = [&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat();
            assert_eq!(alloy::hex::encode(read_command(&mut &frame[..]).unwrap().serialize()), hex);
        }
        for frame in [&[][..], &[0, 0, 0, 4, 1, 2, 3, 4], &[0, 0, 0, 5, 1, 2, 3, 4, 1], &[0, 0, 0, 5, 1], &[255; 9]] {
            assert!(read_command(&mut &frame[..]).is_none(), "{frame:?}");
        }
    }

    #[test]
    fn an_answer_is_framed_with_its_status() {
        let framed = |answer| {
            let mut output = Vec::new();
            write_answer(&mut output, &answer).unwrap();
            alloy::hex::encode(output)
        };
        assert_eq!(framed(Ok(APDUAnswer::from_answer(vec![7, 8, 0x90, 0]).unwrap())), "0000000207089000");
        assert_eq!(framed(Ok(APDUAnswer::from_answer(vec![0x55, 0x15]).unwrap())), "000000005515");
        assert_eq!(framed(Err(pipe_status::ABSENT)), "000000000d01");
    }
}
