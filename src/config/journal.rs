//! Where the journal lies, where it is not a file of this machine.

use std::time::Duration;

use super::error::{Bad, ConfigError};
use super::keys::Key;
use super::sources::Layers;
use super::values;
#[cfg(feature = "postgres")]
use crate::journal::server::Server;

/// A stopped process is taken for dead after this at the earliest: less would take a slow one for it.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
const LONGEST_LEASE: Duration = Duration::from_secs(300);

/// The journal's place.
#[derive(Clone, Debug, Default)]
pub struct JournalConfig {
    /// A server that holds it, for replicas on several machines.
    #[cfg(feature = "postgres")]
    pub server: Option<Server>,
}

impl JournalConfig {
    /// Between two looks at a journal that another replica holds; zero for a file, which has no replicas.
    pub fn look(&self) -> Duration {
        #[cfg(feature = "postgres")]
        if let Some(server) = &self.server {
            return server.look();
        }
        Duration::ZERO
    }
}

pub(super) fn settings(layers: &mut Layers) -> Result<JournalConfig, ConfigError> {
    let lease = layers.or_table(Key::JournalLease, lease)?;
    let Some(url) = layers.get(Key::JournalUrl)? else { return Ok(JournalConfig::default()) };
    url.parse(|text| server(text, lease))
}

#[cfg(feature = "postgres")]
fn server(text: &str, lease: Duration) -> Result<JournalConfig, Bad> {
    let server = Server::parse(text, lease)
        .map_err(|why| Bad::new(format!("it {why}"), "Write postgres://user:password@host/database"))?;
    Ok(JournalConfig { server: Some(server) })
}

#[cfg(not(feature = "postgres"))]
fn server(_: &str, _: Duration) -> Result<JournalConfig, Bad> {
    Err(Bad::new("this drain-mcp was built without postgres", "Build with --features postgres, or unset it"))
}

fn lease(text: &str) -> Result<Duration, Bad> {
    let lease = values::wait(text)?;
    if (SHORTEST_LEASE..=LONGEST_LEASE).contains(&lease) {
        return Ok(lease);
    }
    Err(Bad::new("it is not between 1s and 5m", "Write for example 10s"))
}
