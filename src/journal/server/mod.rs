//! A journal on a PostgreSQL server: how it is reached, and what its errors mean for the money.
//!
//! Each wallet has a schema of its own there, as it has a file of its own elsewhere.

mod answers;
mod examine;
mod kept;
mod lease;
mod schema;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::db::{Connection, Db, DbError, Session, params};
use super::distrust::{self, distrust};
use super::mark::Mark;
use super::schema::{CHECKED_AT_START, Opened, private_folder};
use super::{JournalError, Location, check};
pub use answers::AnswersTable;
pub use examine::{Examined, examine};
pub(super) use kept::Kept;
pub(super) use lease::{Lease, Taken};
pub use schema::{Made, prepare};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for a row that another session holds.
const LOCK: Duration = Duration::from_secs(5);
/// Statements of a transaction follow each other within milliseconds: a process that stands still between two is ended by the
/// server, before anybody else gives up waiting for what it had written (`LOCK`).
const STANDS_STILL: Duration = Duration::from_secs(3);
/// A network that swallows what is sent is given up after so long.
const UNHEARD: Duration = Duration::from_secs(8);
/// What nobody hears of any more is ended by the server: raised by the functions `keep` and `renew`.
const FENCED: &str = "DRF01";
/// Raised where a commit could be lost.
const MAY_LOSE: &str = "DRL01";

/// A server and the account on it. Its text holds no password.
#[derive(Clone)]
pub struct Server {
    config: Arc<Config>,
    /// How long the server keeps a journal for a holder of whom nothing is heard.
    lease: Duration,
    /// Between two looks of those who wait for it; who has much lets others go first for up to two: with the lease, a look, and a
    /// start, no more than what the operator allows for all.
    look: Duration,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("postgres://")?;
        for (place, host) in self.config.get_hosts().iter().enumerate() {
            let name = match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            };
            write!(f, "{}{name}", if place == 0 { "" } else { "," })?;
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl Server {
    /// From `postgres://user:password@host/database`, and how long a hand-over may take. The error never repeats the text, which holds a password.
    ///
    /// # Errors
    /// What is wrong with it: no such form, no host, or a host that is reached over a network without TLS.
    pub fn parse(url: &str, hand_over: Duration) -> Result<Self, String> {
        let wrong = "is no postgres://user:password@host/database";
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong.into());
        }
        // What is wrong in detail may hold a part of the password.
        let mut config: Config = url.parse().map_err(|_| wrong)?;
        if config.get_hosts().is_empty() {
            return Err("names no host".into());
        }
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        let is_name =
            |host: &Host| matches!(host, Host::Unix(_)) || matches!(host, Host::Tcp(name) if name.chars().all(good));
        if !config.get_hosts().iter().all(is_name) {
            return Err("names a host that is none: write % and its number for an @, a / or a : in the password".into());
        }
        let near = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
            }
        };
        if config.get_ssl_mode() == SslMode::Prefer {
            // With or without TLS, whatever answers: not over a network.
            if !config.get_hosts().iter().all(near)
                || !config.get_hostaddrs().iter().all(|address| address.is_loopback())
            {
                return Err("names a host on a network: add ?sslmode=require, or ?sslmode=disable where the network itself is private".into());
            }
            config.ssl_mode(SslMode::Disable);
        }
        if config.get_hosts().len() > 1 {
            // The one that can be written.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        config
            .application_name("drain-mcp")
            .connect_timeout(CONNECT)
            .keepalives_idle(UNHEARD)
            .tcp_user_timeout(UNHEARD);
        // A lease that ends, a look, and the longest turn (`actors/sharing/turn.rs`): nine tenths, the rest is for taking it.
        Ok(Self { config: Arc::new(config), lease: hand_over * 7 / 10, look: hand_over / 15 })
    }

    /// Between two looks at a journal that another process holds.
    pub const fn look(&self) -> Duration {
        self.look
    }

    /// A session that works in this schema.
    pub(super) fn session(&self, schema: &str) -> Result<Session, DbError> {
        Session::open(self.connect(schema))
    }

    async fn connect(&self, schema: &str) -> Result<Client, DbError> {
        let lost = |error: tokio_postgres::Error| match error.as_db_error() {
            Some(_) => DbError::Postgres(error),
            None => DbError::Lost(format!("{self} cannot be reached: {}", DbError::Postgres(error))),
        };
        let client = if self.config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = self.config.connect(NoTls).await.map_err(lost)?;
            tokio::spawn(connection);
            client
        } else {
            let (client, connection) = self.config.connect(tls()?).await.map_err(lost)?;
            tokio::spawn(connection);
            client
        };
        // A process that stands still in the middle of a transaction holds up nobody for long.
        let (lock, unheard) = (LOCK.as_millis(), UNHEARD.as_millis());
        let idle = self.lease.min(STANDS_STILL).as_millis();
        client
            .batch_execute(&format!(
                "SET search_path TO {schema}; SET lock_timeout = {lock}; SET statement_timeout = {unheard}; SET tcp_user_timeout = {unheard}; \
                 SET idle_in_transaction_session_timeout = {idle}; SET default_transaction_isolation = 'read committed'"
            ))
            .await
            .map_err(lost)?;
        Ok(client)
    }
}

/// TLS with the system's certificates.
fn tls() -> Result<MakeRustlsConnect, DbError> {
    let wrong = |error: rustls::Error| DbError::Lost(format!("TLS cannot be used: {error}"));
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_platform_verifier()
        .map_err(wrong)?
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// A journal whose lease was taken, once it can be believed (as `schema::open` does for a file).
pub(super) fn open(location: &Location, taken: Taken) -> Result<Opened, JournalError> {
    let Taken { lease, mut identity, forked, .. } = taken;
    let folder = location.folder();
    private_folder(folder).map_err(|e| JournalError::of_file(folder, &e))?;
    let name = location.name();
    let mut connection = Connection::Postgres(Box::new(lease));
    let fault = {
        let db = connection.db();
        let size: i64 = db.query_row("SELECT pg_total_relation_size('vouchers')", params![], |row| row.get(0))?;
        let problems = if size.unsigned_abs() <= CHECKED_AT_START { check::books(&db) } else { Vec::new() };
        if let Some(first) = problems.into_iter().next() {
            return Err(JournalError::Damaged { path: name, reason: first });
        }
        match Mark::read(folder) {
            _ if forked => Some(
                "lies on a server that went on from another history (a standby took over, or a backup was put back).",
            ),
            Some(before) if before.id == identity.id && before.commits > identity.commits => {
                Some("is an older copy than was last used here.")
            }
            Some(before) if !ever(&db, &before.id)? => Some("is another one than was last used here."),
            _ => None,
        }
    };
    if let Some(fault) = fault {
        connection.begin()?;
        let db = connection.db();
        let notice = distrust(
            &db,
            &format!("{} {fault}", name.display()),
            "Budgets, freezes, set-asides and pins are as it knew them.",
        )?;
        db.execute("UPDATE identity SET cluster = cluster()", params![])?;
        db.execute("INSERT INTO identities SELECT id FROM identity", params![])?;
        connection.commit(true)?;
        tracing::error!("{notice}");
        identity = distrust::identity(&connection.db())?;
    }
    let mut mark = Mark::open(folder);
    mark.write(&identity);
    Ok(Opened { connection, path: name, identity, mark })
}

/// Whether this journal was ever called so.
fn ever(db: &Db<'_>, id: &str) -> Result<bool, JournalError> {
    Ok(db.query_row("SELECT EXISTS (SELECT 1 FROM identities WHERE id = ?1)", [id], |row| row.get(0))?)
}

/// What a server's error means.
pub(super) fn trouble(error: &tokio_postgres::Error, text: String) -> JournalError {
    let Some(said) = error.as_db_error() else { return JournalError::Server(text) };
    match said.code().code() {
        FENCED => JournalError::Fenced,
        MAY_LOSE => JournalError::Unsafe(said.message().into()),
        // It is ending, is full, cannot take more, or lets this account do less than it needs.
        code if ["08", "53", "57", "58", "28", "3D"].iter().any(|class| code.starts_with(class))
            || code == "42501"
            || code == "25006" =>
        {
            JournalError::Server(text)
        }
        _ => JournalError::Write(text),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod urls {
    use super::*;

    fn parse(url: &str) -> Result<Server, String> {
        Server::parse(url, Duration::from_secs(10))
    }

    #[test]
    fn m12_a_url_shows_no_password_whatever_is_wrong_with_it() {
        for url in [
            "postgres://drain:hunter2@db.example/drain",
            "postgres://drain:hunter2@db.example/drain?sslmode=prefer",
            "postgres://drain:hunter2@",
            "postgres://drain:hun@hunter2@localhost/drain",
            "postgres://drain:hunter2@localhost:port/drain",
            "postgres://drain:hunter2@localhost/drain?hunter2=1",
            "password=hunter2 host=localhost",
            "password=my hunter2",
        ] {
            let wrong = parse(url).unwrap_err();
            assert!(!wrong.contains("hunter2"), "{url}: {wrong}");
        }
        for url in [
            "postgres://drain:hunter2@127.0.0.1/drain",
            "postgres://drain:hunter2@localhost:5433/drain",
            "postgresql://drain:hunter2@db.example/drain?sslmode=require",
            "postgres://drain:hunter2@10.0.0.1,10.0.0.2/drain?sslmode=disable&target_session_attrs=read-write",
            "postgres://drain:hunter2@%2Fvar%2Frun%2Fpostgresql/drain",
        ] {
            let server = parse(url).unwrap();
            let shown = format!("{server} {server:?}");
            assert!(!shown.contains("hunter2") && shown.contains("/drain"), "{shown}");
        }
    }
}
