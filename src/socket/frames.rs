//! What crosses the socket: a length of four bytes, then JSON.

use std::io;

use futures::{SinkExt, StreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use super::FRAME_BYTES;
use crate::api::{Command, Reply, Said};
use crate::error::Failure;
use crate::policy::Asked;
use crate::policy::approvals::Verdict;

/// From a client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Up {
    /// Do this.
    Call {
        /// The client's number for it; none that is in use.
        id: u64,
        /// What.
        command: Box<Command>,
        /// By which call at the client: its id goes into the holder's log and record.
        asked: Asked,
        /// Whether a person at the client can be asked.
        person: bool,
        /// Parts of the answer are wanted while it comes.
        parts: bool,
    },
    /// A person's answer to the question of a command.
    Answer {
        /// Which.
        id: u64,
        /// Yes or no; `None` where nobody answers.
        verdict: Option<Verdict>,
    },
    /// Nobody waits for this any more.
    Cancel {
        /// Which.
        id: u64,
    },
}

/// To a client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Down {
    /// What a command is doing.
    Progress {
        /// Which.
        id: u64,
        /// A line, or a part of the answer.
        said: Said,
    },
    /// A question to the person at the client; one at a time.
    Ask {
        /// Of which command.
        id: u64,
        /// Its name.
        question: String,
        /// What will be signed, to whom, and what it may cost at most.
        text: String,
    },
    /// What came of it.
    Done {
        /// Which.
        id: u64,
        /// The answer.
        result: Result<Reply, Failure>,
    },
    /// Not begun: this process is about to end, and the next holder of the wallet is to be asked.
    Leaving {
        /// Which.
        id: u64,
    },
}

/// Reads frames.
pub struct Reader(FramedRead<OwnedReadHalf, LengthDelimitedCodec>);

/// Writes frames.
pub struct Writer(FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>);

/// Both ends of a stream, for frames of at most `limit` bytes to be read.
pub fn split(stream: tokio::net::UnixStream, limit: usize) -> (Reader, Writer) {
    let (read, write) = stream.into_split();
    (Reader(FramedRead::new(read, codec(limit))), Writer(FramedWrite::new(write, codec(FRAME_BYTES))))
}

fn codec(limit: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(limit).new_codec()
}

impl Reader {
    /// From now on frames may be so long.
    pub fn allow(&mut self, limit: usize) {
        self.0.decoder_mut().set_max_frame_length(limit);
    }

    /// The next frame's bytes; `None` at the end. Nothing is lost when this is not waited for.
    pub async fn bytes(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.0.next().await.transpose().map(|frame| frame.map(Into::into))
    }

    /// The next frame; `None` at the end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        match self.bytes().await? {
            Some(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            None => Ok(None),
        }
    }
}

impl Writer {
    /// Writes a frame to its last byte. After an error the peer has not got it whole.
    pub async fn bytes(&mut self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).await
    }

    /// Writes a value.
    pub async fn send<T: Serialize + Sync>(&mut self, value: &T) -> io::Result<()> {
        self.bytes(&serde_json::to_vec(value)?).await
    }
}
