//! Reads of several endpoints: of the next one where one is slow, of two where money depends on the answer.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;

use super::error::ChainError;
use super::pool::{Endpoint, Pool};
use super::rpc::Trouble;

/// A read that has no answer after this is asked of the next endpoint too.
const HEDGE: Duration = Duration::from_millis(800);

/// A node so many blocks behind another one tells of the past.
const MOST_BEHIND: u64 = 15;

impl Pool {
    /// Asks endpoints in their order until so many have answered: `wanted` of them at once, another one for each that
    /// fails, and another one whenever [`HEDGE`] has passed; then `enough` of them will do. Gives what was answered and what
    /// went wrong. One that was overtaken is put aside. For reads only.
    pub(super) async fn hedged<'a, T, F: Future<Output = Result<T, Trouble>>>(
        &'a self,
        enough: usize,
        wanted: usize,
        ask: impl Fn(&'a Endpoint) -> F,
    ) -> (Vec<(&'a Endpoint, T)>, Vec<(&'a Endpoint, Trouble)>) {
        let mut waiting = self.order().into_iter();
        let (mut said, mut troubles) = (Vec::new(), Vec::new());
        // Those under way, the earliest asked first.
        let (mut asked, mut running) = (Vec::new(), FuturesUnordered::new());
        let ask = &ask;
        let start = |endpoint: &'a Endpoint| async move { (endpoint, ask(endpoint).await) };
        for endpoint in waiting.by_ref().take(wanted) {
            asked.push(endpoint);
            running.push(start(endpoint));
        }
        while said.len() < wanted {
            let next = match tokio::time::timeout(HEDGE, running.next()).await {
                Ok(None) => break,
                Ok(Some((endpoint, answer))) => {
                    asked.retain(|other| !std::ptr::eq(*other, endpoint));
                    match answer {
                        Ok(answer) => {
                            said.push((endpoint, answer));
                            continue;
                        }
                        Err(trouble) => troubles.push((endpoint, trouble)),
                    }
                    waiting.next()
                }
                Err(_) if said.len() >= enough => break,
                Err(_) => waiting.next(),
            };
            if let Some(endpoint) = next {
                asked.push(endpoint);
                running.push(start(endpoint));
            }
        }
        // Whoever was asked first and has not answered was overtaken: others are asked before it for a while.
        if said.len() >= enough {
            for slow in asked {
                slow.note(Err("no answer in time: another endpoint was quicker"));
            }
        }
        (said, troubles)
    }

    /// Asks one endpoint after another until two have answered, or the one where a single one is configured. A revert
    /// is an answer: `None`.
    pub(super) async fn ask_two<T>(
        &self,
        method: &str,
        params: &Value,
        block: Option<u64>,
        decode: impl Fn(Value) -> Result<T, String>,
    ) -> Result<Vec<(&Endpoint, Option<T>)>, ChainError> {
        let (wanted, decode) = (self.len().min(2), &decode);
        let asked = self.hedged(wanted, wanted, |endpoint| async move {
            match self.ask_at(endpoint, method, params, block, decode).await {
                Err(Trouble::Reverted(_)) => Ok(None),
                answer => answer.map(Some),
            }
        });
        let (said, troubles) = asked.await;
        if said.len() == wanted { Ok(said) } else { Err(self.summary(&troubles)) }
    }

    /// The newest block by the word of two endpoints, or of those that answer. One that is far behind another is put aside:
    /// what it says of the present is the past.
    pub(super) async fn newest<T>(
        &self,
        method: &str,
        params: &Value,
        decode: impl Fn(Value) -> Result<T, String>,
        number: impl Fn(&T) -> u64,
    ) -> Result<T, ChainError> {
        // Those aside are not waited for; they are asked again when their time is over.
        let healthy = self.endpoints.iter().filter(|endpoint| endpoint.aside().is_none()).count();
        let (wanted, decode) = (healthy.clamp(1, 2), &decode);
        let asked = self.hedged(1, wanted, |endpoint| async move { self.ask(endpoint, method, params, decode).await });
        let (said, troubles) = asked.await;
        let newest = said.iter().map(|(_, block)| number(block)).max().unwrap_or_default();
        for (endpoint, block) in &said {
            endpoint.saw(number(block));
            let behind = newest.saturating_sub(number(block));
            if behind > MOST_BEHIND {
                endpoint.is_behind(behind);
            }
        }
        let newest = said.into_iter().map(|(_, block)| block).max_by_key(number);
        newest.ok_or_else(|| self.summary(&troubles))
    }
}
