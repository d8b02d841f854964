//! What a client can attach without a tool call: the wallet and the directory.

use rmcp::model::{ErrorData, Resource as Listed, ResourceContents};
use serde_json::json;

use super::answer::Answer;
use super::tools;
use crate::actors::Runtime;
use crate::api::ProviderQuery;
use crate::error::Failure;

/// A resource that can be read at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `drain://wallet`.
    Wallet,
    /// `drain://providers`.
    Providers,
}

impl Resource {
    const ALL: [Self; 2] = [Self::Wallet, Self::Providers];

    /// Its address.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Wallet => "drain://wallet",
            Self::Providers => "drain://providers",
        }
    }

    /// The resource at an address.
    pub fn find(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.uri() == uri.trim())
    }

    fn listed(self) -> Listed {
        let (name, title, about) = match self {
            Self::Wallet => ("wallet", "Wallet", "Address, USDC, gas money and what is locked in channels."),
            Self::Providers => ("providers", "Providers", "The directory of providers that drain-mcp can pay."),
        };
        Listed::new(self.uri(), name).with_title(title).with_description(about).with_mime_type("text/plain")
    }

    /// Its present content.
    pub async fn read(self, runtime: Runtime) -> Result<Answer, Failure> {
        match self {
            Self::Wallet => tools::balance::show(&runtime.balance().await?),
            Self::Providers => {
                let page = runtime.providers(ProviderQuery::default()).await?;
                tools::providers::show(&page, &ProviderQuery::default(), false)
            }
        }
    }

    /// The content on the wire.
    pub fn contents(self, text: String) -> ResourceContents {
        ResourceContents::text(text, self.uri())
    }
}

/// All resources, as a client sees them.
pub fn listed() -> Vec<Listed> {
    Resource::ALL.map(Resource::listed).to_vec()
}

/// No such resource.
pub fn unknown(uri: &str) -> ErrorData {
    let uri = drain_protocol::text::one_line(uri, 80);
    let message = format!("There is no resource {uri}; there are drain://wallet and drain://providers.");
    ErrorData::resource_not_found(message, Some(json!({ "uri": uri })))
}
