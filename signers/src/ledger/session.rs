//! One request to the device, from the connection to the press.

use std::time::Duration;

use alloy::consensus::SignableTransaction;
use drain_protocol::Address;
use tokio::time::{Instant, interval_at, sleep_until};

use super::apdu::{self, Answer, Apdu};
use super::path::HdPath;
use super::problem::DeviceProblem;
use super::transport::{Connect, Connection};
use super::{app, describe, typed_data};
use crate::prompt::Prompt;
use crate::request::{Call, Message, TransactionRequest};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// For an answer that needs no press.
    pub answer: Duration,
    /// For a person, from the question to the press; also for a request's turn.
    pub person: Duration,
    /// How often a waiting person, and the client that waits for them, hear that it still waits.
    pub reminder: Duration,
}

impl Waits {
    pub const fn for_a_person(person: Duration) -> Self {
        Self { answer: Duration::from_secs(10), person, reminder: Duration::from_secs(20) }
    }
}

/// A device with the right app and the right account.
pub(super) struct Session {
    connection: Connection,
    path: HdPath,
    waits: Waits,
}

/// A question to a person: what is asked, who says so, when it ends.
struct Question<'a> {
    what: String,
    prompt: &'a Prompt,
    end: Instant,
}

/// A connection to the right app.
async fn to_the_app(connect: &Connect, limit: Duration) -> Result<Connection, DeviceProblem> {
    let mut connection = connect.connect().await?;
    app::check(connection.exchange(&apdu::app_and_version(), limit).await?)?;
    Ok(connection)
}

/// The accounts at some paths. Needs no press.
pub(super) async fn accounts(connect: &Connect, paths: &[HdPath]) -> Result<Vec<Address>, DeviceProblem> {
    let limit = Waits::for_a_person(Duration::ZERO).answer;
    let mut connection = to_the_app(connect, limit).await?;
    let mut found = Vec::with_capacity(paths.len());
    for path in paths {
        let answer = connection.exchange(&app::account_command(path), limit).await?;
        found.push(app::account(answer, path)?);
    }
    Ok(found)
}

impl Session {
    /// Connects, and sees that app and account are right.
    pub async fn open(
        connect: &Connect,
        path: &HdPath,
        configured: Address,
        waits: Waits,
    ) -> Result<Self, DeviceProblem> {
        let connection = to_the_app(connect, waits.answer).await?;
        let mut session = Self { connection, path: path.clone(), waits };
        let found = app::account(session.ask(&app::account_command(path)).await?, path)?;
        if found != configured {
            return Err(DeviceProblem::OtherAddress { path: path.to_string(), configured, found });
        }
        Ok(session)
    }

    /// Where the device would refuse what it cannot explain, the person hears it before anything is asked.
    pub async fn check_transaction(&mut self, request: &TransactionRequest) -> Result<(), DeviceProblem> {
        if matches!(request.call, Call::SendNative { .. }) { Ok(()) } else { self.must_sign_blindly().await }
    }

    /// Tells the types of a message. False where the app takes hash pairs only.
    pub async fn define(&mut self, message: &Message) -> Result<bool, DeviceProblem> {
        for (n, command) in typed_data::definitions(message).iter().enumerate() {
            let answer = self.ask(command).await?;
            if n == 0 && answer.status == apdu::UNKNOWN_COMMAND {
                self.must_sign_blindly().await?;
                return Ok(false);
            }
            answer.nothing()?;
        }
        Ok(true)
    }

    /// Has a person sign a message: r, s, and v as 27 or 28. `shown` is what [`Session::define`] said.
    pub async fn message(
        &mut self,
        message: &Message,
        shown: bool,
        prompt: &Prompt,
    ) -> Result<[u8; 65], DeviceProblem> {
        let path = self.path.to_bytes();
        if !shown {
            let question = self.question(describe::message(message), &describe::hashes_screen(message), prompt);
            let command = apdu::sign_hashes(path, message.domain_separator().0, message.struct_hash().0);
            return signature(self.press(&command, &question).await?);
        }
        let question = self.question(describe::message(message), &describe::message_screen(message), prompt);
        match self.typed(message, path, &question).await {
            // Refused though the setting is on: it did not understand. It has forgotten all now, and the next one works.
            Err(DeviceProblem::BlindSigningOff) if self.must_sign_blindly().await.is_ok() => {
                Err(DeviceProblem::garbled("it refused a message that it knows how to show"))
            }
            done => done,
        }
    }

    async fn typed(
        &mut self,
        message: &Message,
        path: Vec<u8>,
        question: &Question<'_>,
    ) -> Result<[u8; 65], DeviceProblem> {
        for command in typed_data::values(message) {
            self.press(&command, question).await?.nothing()?;
        }
        signature(self.press(&apdu::sign_typed(path), question).await?)
    }

    /// Has a person sign a transaction: r, s, and v as 27 or 28.
    pub async fn transaction(
        &mut self,
        request: &TransactionRequest,
        prompt: &Prompt,
    ) -> Result<[u8; 65], DeviceProblem> {
        let question = self.question(describe::transaction(request), &describe::transaction_screen(request), prompt);
        let unsigned = request.unsigned().encoded_for_signing();
        let mut commands = apdu::sign_transaction(self.path.to_bytes(), &unsigned);
        let last = commands.pop().ok_or_else(|| DeviceProblem::garbled("nothing to send"))?;
        for command in &commands {
            self.press(command, &question).await?.nothing()?;
        }
        signature(self.press(&last, &question).await?)
    }

    /// Tells the person; from here on their time runs.
    fn question<'a>(&self, what: String, screen: &str, prompt: &'a Prompt) -> Question<'a> {
        prompt.show(&format!("confirm on your Ledger: {what}; {screen}"));
        Question { what, prompt, end: Instant::now() + self.waits.person }
    }

    async fn must_sign_blindly(&mut self) -> Result<(), DeviceProblem> {
        let answer = self.ask(&apdu::configuration()).await?;
        if app::signs_blindly(answer)? { Ok(()) } else { Err(DeviceProblem::BlindSigningOff) }
    }

    async fn ask(&mut self, command: &Apdu) -> Result<Answer, DeviceProblem> {
        self.connection.exchange(command, self.waits.answer).await
    }

    /// Waits for a person, and says from time to time that it waits.
    async fn press(&mut self, command: &Apdu, question: &Question<'_>) -> Result<Answer, DeviceProblem> {
        let Waits { person, reminder, .. } = self.waits;
        let mut answer = std::pin::pin!(self.connection.exchange_patiently(command));
        let mut reminder = interval_at(Instant::now() + reminder, reminder);
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                () = sleep_until(question.end) => return Err(DeviceProblem::NoAnswer { seconds: person.as_secs() }),
                _ = reminder.tick() => {
                    let left = question.end.saturating_duration_since(Instant::now()).as_secs();
                    question.prompt.show(&format!("still waiting for the Ledger, {left} s more: {}", question.what));
                }
            }
        }
    }
}

/// The app answers v, r, s. Messages have v as 27 or 28, transactions as 0 or 1: both become 27 or 28 at the end.
fn signature(answer: Answer) -> Result<[u8; 65], DeviceProblem> {
    let data = answer.data()?;
    let (v, rest) = match data[..] {
        // A transaction that is not complete for the device is answered like this: it waits for more.
        [] => return Err(DeviceProblem::garbled("no signature")),
        [v @ (0 | 1), ref rest @ ..] => (v + 27, rest),
        [v @ (27 | 28), ref rest @ ..] => (v, rest),
        [v, ..] => return Err(DeviceProblem::garbled(format!("v is {v}"))),
    };
    let Ok(rs) = <[u8; 64]>::try_from(rest) else {
        return Err(DeviceProblem::garbled(format!("a signature of {} bytes", data.len())));
    };
    let mut bytes = [v; 65];
    bytes[..64].copy_from_slice(&rs);
    Ok(bytes)
}
