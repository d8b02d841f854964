//! A PostgreSQL server of a test's own, in a folder of its own. `DRAIN_TEST_POSTGRES` is the folder of its programs; `.ci/run`
//! installs them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The account that owns the schemas.
pub const OWNER: &str = "keeper";
/// The account that a runtime works with, where a test wants one that may do no more than it needs.
pub const ROLE: &str = "drain";
const PASSWORD: &str = "a-password-that-nobody-may-see";

/// A running server; dropping it ends it and deletes what it held.
pub struct Server {
    folder: tempfile::TempDir,
    programs: PathBuf,
    pub port: u16,
}

impl Server {
    /// A new one, with both accounts and a database `drain`.
    pub fn start() -> Self {
        let programs = std::env::var_os("DRAIN_TEST_POSTGRES")
            .expect("DRAIN_TEST_POSTGRES is the folder with PostgreSQL's programs; see .ci/run");
        let folder = tempfile::Builder::new().prefix("drain-postgres").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, programs: programs.into(), port };
        if is_root() {
            // It refuses to run as root.
            let owned = Command::new("chown").args(["postgres"]).arg(server.folder.path()).status().unwrap();
            assert!(owned.success());
        }
        let args = ["-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"];
        let made = server.command("initdb").arg("-D").arg(server.data()).args(args).current_dir("/").output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let settings = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nmax_connections = 200\nlog_statement = none\n",
            server.folder.path().display()
        );
        server.settings(&settings);
        // Accounts are asked for their password; what a test does itself goes over the socket.
        std::fs::write(
            server.folder.path().join("data/pg_hba.conf"),
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 trust\n",
        )
        .unwrap();
        server.up();
        for account in [OWNER, ROLE] {
            server.sql("postgres", &format!("CREATE ROLE {account} LOGIN PASSWORD '{PASSWORD}'"));
        }
        server.sql("postgres", &format!("CREATE DATABASE drain OWNER {OWNER}"));
        server
    }

    /// How an account reaches it.
    pub fn url(&self, account: &str) -> String {
        self.url_at(account, self.port)
    }

    /// The same, through another port.
    pub fn url_at(&self, account: &str, port: u16) -> String {
        format!("postgres://{account}:{PASSWORD}@127.0.0.1:{port}/drain")
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    /// Adds to its configuration; counts from its next start, or `reload`.
    pub fn settings(&self, text: &str) {
        let path = Path::new(&self.data()).join("postgresql.conf");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{before}\n{text}\n")).unwrap();
    }

    pub fn up(&self) {
        let log = self.folder.path().join("log").display().to_string();
        assert!(self.control(&["-l", &log, "start"]), "{}", std::fs::read_to_string(log).unwrap_or_default());
    }

    /// Ends it: `fast`, or `immediate` as a crash does.
    pub fn down(&self, how: &str) {
        assert!(self.control(&["-m", how, "stop"]));
    }

    /// What `pg_dump` makes of a database.
    pub fn dump(&self, database: &str) -> Vec<u8> {
        let made = self.client("pg_dump", database).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        made.stdout
    }

    /// Puts it back in the place of a schema, in one transaction: a replica that finds none would make its own between. Of two that wait
    /// for each other the replica is the one that gives in.
    pub fn restore(&self, database: &str, dump: &[u8], schema: &str) {
        let file = self.folder.path().join("dump.sql");
        let first = format!("SET deadlock_timeout = '60s'; DROP SCHEMA {schema} CASCADE;\n");
        std::fs::write(&file, [first.as_bytes(), dump].concat()).unwrap();
        let back =
            self.client("psql", database).args(["-qX1", "-v", "ON_ERROR_STOP=1", "-f"]).arg(file).output().unwrap();
        assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
    }

    /// Starts as a standby, in recovery: nothing can be written.
    pub fn up_as_standby(&self) {
        let signal = Path::new(&self.data()).join("standby.signal");
        std::fs::write(&signal, "").unwrap();
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(&signal).status().unwrap().success());
        }
        self.up();
    }

    /// Ends the recovery: it is a primary on a timeline of its own from here on.
    pub fn promote(&self) {
        assert!(self.control(&["promote"]));
    }

    pub fn reload(&self) {
        assert!(self.control(&["reload"]));
    }

    /// Runs SQL as its superuser; gives what it printed, columns parted by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|refused| panic!("{sql}: {refused}"))
    }

    /// The same of what may be refused.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output =
            self.client("psql", database).args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql]).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// A program of its superuser, which reaches it over its socket.
    fn client(&self, program: &str, database: &str) -> Command {
        let mut command = self.command(program);
        command.arg("-h").arg(self.folder.path()).args([
            "-p",
            &self.port.to_string(),
            "-U",
            "postgres",
            "-d",
            database,
        ]);
        command.current_dir("/");
        command
    }

    /// One of PostgreSQL's programs, as somebody who is not root.
    fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        if !is_root() {
            return Command::new(path);
        }
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(path);
        command
    }

    /// `pg_ctl`. A server that it starts inherits pipes, which then never end.
    fn control(&self, args: &[&str]) -> bool {
        let quiet = || std::process::Stdio::null();
        self.command("pg_ctl")
            .args(["-D", &self.data(), "-w"])
            .args(args)
            .stdout(quiet())
            .stderr(quiet())
            .status()
            .unwrap()
            .success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.control(&["-m", "immediate", "stop"]);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
