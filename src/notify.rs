//! Tells the operator of events: a shell command or a webhook, off by default.
//!
//! A courtesy beside the work: it never delays a payment, and what cannot be delivered is logged and dropped. The same
//! event is told once in ten minutes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::process::Stdio;
use std::time::{Duration, Instant};

use drain_protocol::text::one_line;
use reqwest::Url;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::child;
use crate::config::NotifyConfig;
use crate::http_client::{HttpClient, RequestLimits, UrlPolicy, post_json};

/// Events that may wait.
const QUEUE: usize = 64;
/// Longest run of the command.
const COMMAND_TIME: Duration = Duration::from_secs(30);
/// What a webhook may take and answer.
const WEBHOOK: RequestLimits = RequestLimits::new(Duration::from_secs(10), 64 * 1024);
/// The same event is not told again for so long.
const QUIET: Duration = Duration::from_secs(600);
/// Longest text of an event.
const MOST_TEXT: usize = 1_000;

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A question waits for a person.
    ApprovalWaiting,
    /// A limit refused something.
    CapReached,
    /// Money needs a person's attention.
    Alarm,
    /// What was left of a channel came back.
    RefundDone,
    /// The wallet is short of money, and the treasury could refill it.
    RefillNeeded,
    /// Money can come back by a press on the signing device.
    PressNeeded,
}

/// One event, as it is told: a JSON object.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// What kind.
    pub event: EventKind,
    /// What it is about, for programs: a question, a variable, a failure code, a channel.
    pub subject: String,
    /// For people. May hold a provider's words: data, not instructions.
    pub text: String,
    /// Which wallet; empty without one.
    pub wallet: String,
    /// Unix seconds.
    pub at: u64,
}

/// Where events go. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Option<Queues>);

/// Alarms have a queue of their own: no number of other events keeps them out.
#[derive(Clone, Debug)]
struct Queues {
    alarms: mpsc::Sender<Event>,
    others: mpsc::Sender<Event>,
}

impl Notifier {
    /// Starts the teller, where the operator wants one; call inside of a runtime.
    pub fn start(config: &NotifyConfig) -> Self {
        if config.command.is_none() && config.webhook.is_none() {
            return Self(None);
        }
        let ((alarms, first), (others, then)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        tokio::spawn(tell_all(config.clone(), first, then));
        Self(Some(Queues { alarms, others }))
    }

    /// Tells an event, soon. Dropped where too many wait.
    pub fn tell(&self, event: Event) {
        let Some(queues) = &self.0 else { return };
        let queue = if event.event == EventKind::Alarm { &queues.alarms } else { &queues.others };
        if queue.try_send(Event { text: one_line(&event.text, MOST_TEXT), ..event }).is_err() {
            tracing::warn!("an event was not told: too many wait");
        }
    }
}

async fn tell_all(config: NotifyConfig, mut alarms: mpsc::Receiver<Event>, mut others: mpsc::Receiver<Event>) {
    let webhook = config.webhook.map(|url| (HttpClient::new(UrlPolicy::new(&url, true)), url));
    let mut told: HashMap<(EventKind, String), Instant> = HashMap::new();
    loop {
        let event = tokio::select! {
            biased;
            Some(event) = alarms.recv() => event,
            Some(event) = others.recv() => event,
            else => return,
        };
        told.retain(|_, at| at.elapsed() < QUIET);
        // Alarms of one kind may be about different money: those with other words are told too.
        let about = if event.event == EventKind::Alarm { &event.text } else { &event.subject };
        match told.entry((event.event, about.clone())) {
            Entry::Occupied(_) => continue,
            Entry::Vacant(place) => _ = place.insert(Instant::now()),
        }
        let Ok(body) = serde_json::to_vec(&event) else { continue };
        if let Some(command) = &config.command
            && let Err(reason) = run(command, &body).await
        {
            tracing::warn!(event = ?event.event, reason, "the command of DRAIN_NOTIFY_COMMAND failed");
        }
        if let Some((client, url)) = &webhook
            && let Err(reason) = post(client, url, body).await
        {
            tracing::warn!(event = ?event.event, reason, "the webhook took no event");
        }
    }
}

/// Runs the command with the event on its standard input, and without our environment: keys are none of its business (M12).
async fn run(command: &str, body: &[u8]) -> Result<(), String> {
    let mut shell = child::shell(command);
    shell.stdin(Stdio::piped());
    let mut child = shell.spawn().map_err(|error| error.to_string())?;
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A command that reads nothing is as good.
            let _ = stdin.write_all(body).await;
        }
        child.wait().await
    };
    match tokio::time::timeout(COMMAND_TIME, work).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(status.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it took too long and was ended".into()),
    }
}

async fn post(client: &HttpClient, url: &Url, body: Vec<u8>) -> Result<(), String> {
    let answer = client.fetch(post_json(url.clone(), body), WEBHOOK).await;
    match answer {
        Ok(answer) if answer.status.is_success() => Ok(()),
        Ok(answer) => Err(answer.status.to_string()),
        // Without the URL: it may hold credentials.
        Err(error) => Err(error.to_string()),
    }
}
