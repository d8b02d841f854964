//! The MCP clients that are known: where each keeps its list of servers, and how that is written.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::error::{Code, Failure};

/// An MCP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Client {
    /// Anthropic's command line.
    ClaudeCode,
    /// Anthropic's desktop application.
    ClaudeDesktop,
    /// The editor.
    Cursor,
    /// Microsoft's editor with Copilot.
    Vscode,
    /// The editor.
    Windsurf,
    /// The editor.
    Zed,
    /// The extension of VS Code.
    Cline,
    /// OpenAI's command line.
    Codex,
    /// Google's command line.
    Gemini,
}

/// For whom an entry counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// This user, in every folder.
    #[default]
    User,
    /// Whoever works in this folder.
    Project,
}

/// How a client's file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, with comments where the client allows them.
    Json {
        /// The object that holds the servers.
        servers: &'static str,
        /// Whether an entry says that it is a program.
        typed: bool,
    },
    /// TOML, with a table `[mcp_servers.NAME]`.
    Toml,
}

/// Where a client's file is.
enum Place {
    /// In the person's home.
    Home(&'static str),
    /// In the home, or under this name in the folder that a variable names.
    Own { variable: &'static str, name: &'static str, home: &'static str },
    /// Where the system keeps what applications write.
    App(&'static str),
    /// Where the XDG rules say, on macOS too.
    Xdg(&'static str),
}

struct Row {
    label: &'static str,
    format: Format,
    user: Place,
    project: Option<&'static str>,
}

const SERVERS: Format = Format::Json { servers: "mcpServers", typed: false };
const TYPED: Format = Format::Json { servers: "mcpServers", typed: true };
const VSCODE: Format = Format::Json { servers: "servers", typed: true };
const ZED: Format = Format::Json { servers: "context_servers", typed: false };

impl Client {
    fn row(self) -> Row {
        let row = |label, format, user, project| Row { label, format, user, project };
        match self {
            Self::ClaudeCode => {
                let user = Place::Own { variable: "CLAUDE_CONFIG_DIR", name: ".claude.json", home: ".claude.json" };
                row("Claude Code", TYPED, user, Some(".mcp.json"))
            }
            Self::ClaudeDesktop => {
                row("Claude Desktop", SERVERS, Place::App("Claude/claude_desktop_config.json"), None)
            }
            Self::Cursor => row("Cursor", SERVERS, Place::Home(".cursor/mcp.json"), Some(".cursor/mcp.json")),
            Self::Vscode => row("VS Code", VSCODE, Place::App("Code/User/mcp.json"), Some(".vscode/mcp.json")),
            Self::Windsurf => row("Windsurf", SERVERS, Place::Home(".codeium/windsurf/mcp_config.json"), None),
            Self::Zed => row("Zed", ZED, Place::Xdg("zed/settings.json"), Some(".zed/settings.json")),
            Self::Cline => {
                let file = "Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json";
                row("Cline", SERVERS, Place::App(file), None)
            }
            Self::Codex => {
                let user = Place::Own { variable: "CODEX_HOME", name: "config.toml", home: ".codex/config.toml" };
                row("Codex", Format::Toml, user, Some(".codex/config.toml"))
            }
            Self::Gemini => {
                row("Gemini CLI", SERVERS, Place::Home(".gemini/settings.json"), Some(".gemini/settings.json"))
            }
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Its name for people.
    pub fn label(self) -> &'static str {
        self.row().label
    }

    /// How its file is written.
    pub fn format(self) -> Format {
        self.row().format
    }

    /// Its file, by this process's environment.
    pub fn file(self, scope: Scope) -> Result<PathBuf, Failure> {
        let row = self.row();
        match (scope, row.project) {
            (Scope::User, _) => {
                row.user.find(&|name| std::env::var_os(name).map(PathBuf::from), cfg!(target_os = "macos"))
            }
            (Scope::Project, Some(path)) => Ok(PathBuf::from(path)),
            (Scope::Project, None) => Err(Failure::unspent(
                Code::InvalidArgument,
                format!("{} has no file for a project.", row.label),
                "Leave --scope away, or name the file with --file.",
            )),
        }
    }
}

impl Place {
    fn find(&self, variable: &dyn Fn(&str) -> Option<PathBuf>, mac: bool) -> Result<PathBuf, Failure> {
        let named = |name: &str| variable(name).filter(|path| path.is_absolute());
        let in_home = |path: &str| {
            named("HOME").map(|home| home.join(path)).ok_or_else(|| {
                Failure::unspent(
                    Code::InvalidConfig,
                    "HOME is not set: where the client keeps its file is not known.",
                    "Set HOME, or name the file with --file.",
                )
            })
        };
        let xdg = |path: &str| match named("XDG_CONFIG_HOME") {
            Some(folder) => Ok(folder.join(path)),
            None => in_home(&Path::new(".config").join(path).to_string_lossy()),
        };
        match self {
            Self::Home(path) => in_home(path),
            Self::Own { variable, name, home } => match named(variable) {
                Some(folder) => Ok(folder.join(name)),
                None => in_home(home),
            },
            Self::App(path) if mac => in_home(&format!("Library/Application Support/{path}")),
            Self::Xdg(path) if mac => in_home(&format!(".config/{path}")),
            Self::App(path) | Self::Xdg(path) => xdg(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_place_on_each_system() {
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/h"));
        let moved = |name: &str| Some(PathBuf::from(format!("/{name}")));
        for (client, linux, mac, elsewhere) in [
            (Client::ClaudeCode, ".claude.json", ".claude.json", "/CLAUDE_CONFIG_DIR/.claude.json"),
            (
                Client::ClaudeDesktop,
                ".config/Claude/claude_desktop_config.json",
                "Library/Application Support/Claude/claude_desktop_config.json",
                "/XDG_CONFIG_HOME/Claude/claude_desktop_config.json",
            ),
            (Client::Cursor, ".cursor/mcp.json", ".cursor/mcp.json", "/HOME/.cursor/mcp.json"),
            (
                Client::Vscode,
                ".config/Code/User/mcp.json",
                "Library/Application Support/Code/User/mcp.json",
                "/XDG_CONFIG_HOME/Code/User/mcp.json",
            ),
            (
                Client::Zed,
                ".config/zed/settings.json",
                ".config/zed/settings.json",
                "/XDG_CONFIG_HOME/zed/settings.json",
            ),
            (Client::Codex, ".codex/config.toml", ".codex/config.toml", "/CODEX_HOME/config.toml"),
        ] {
            let place = client.row().user;
            assert_eq!(place.find(&home, false).unwrap(), Path::new("/h").join(linux), "{client:?}");
            assert_eq!(place.find(&home, true).unwrap(), Path::new("/h").join(mac), "{client:?}");
            assert_eq!(place.find(&moved, false).unwrap(), Path::new(elsewhere), "{client:?}");
            assert!(place.find(&|_| None, false).is_err(), "{client:?}");
        }
    }
}
