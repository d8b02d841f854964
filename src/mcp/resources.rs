//! What a client can attach without a tool call: the wallet, the directory, and receipts with their answers.

use std::borrow::Cow;

use rmcp::model::{ErrorData, Resource as Listed, ResourceContents, ResourceTemplate};
use serde_json::json;

use super::answer::Answer;
use super::{render, tools};
use crate::actors::Runtime;
use crate::api::{ProviderQuery, ReceiptQuery};
use crate::error::Failure;

/// Receipts that the list shows.
const NEWEST: u32 = 20;
/// The address of one receipt, with its name in place of the braces.
const RECEIPT: &str = "drain://receipts/{receipt}";

/// A resource that can be read at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `drain://wallet`.
    Wallet,
    /// `drain://providers`.
    Providers,
    /// `drain://receipts`.
    Receipts,
    /// `drain://receipts/c1-2`.
    Receipt(String),
}

impl Resource {
    const LISTED: [Self; 3] = [Self::Wallet, Self::Providers, Self::Receipts];

    /// Its name in logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Wallet => "drain://wallet",
            Self::Providers => "drain://providers",
            Self::Receipts => "drain://receipts",
            Self::Receipt(_) => RECEIPT,
        }
    }

    /// Its address.
    fn uri(&self) -> Cow<'static, str> {
        match self {
            Self::Receipt(id) => format!("drain://receipts/{id}").into(),
            other => other.name().into(),
        }
    }

    /// The resource at an address.
    pub fn find(uri: &str) -> Option<Self> {
        let uri = uri.trim();
        if let Some(id) = uri.strip_prefix("drain://receipts/") {
            let plain = !id.is_empty() && id.len() <= 40 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            return plain.then(|| Self::Receipt(id.to_owned()));
        }
        Self::LISTED.into_iter().find(|resource| resource.name() == uri)
    }

    fn listed(self) -> Listed {
        let (name, title, about) = match self {
            Self::Wallet => ("wallet", "Wallet", "Address, USDC, gas money and what is locked in channels."),
            Self::Providers => ("providers", "Providers", "The directory of providers that drain-mcp can pay."),
            Self::Receipts | Self::Receipt(_) => {
                ("receipts", "Receipts", "The newest receipts: what each request cost.")
            }
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
            Self::Receipts => {
                let newest = ReceiptQuery { limit: NEWEST, ..ReceiptQuery::default() };
                let receipts = runtime.receipts(newest).await?;
                Answer::new(&json!({}), &[], render::receipts(&receipts))
            }
            Self::Receipt(id) => {
                let details = runtime.receipt(&id).await?;
                Answer::new(&json!({}), &[], render::receipt_with_answer(&details))
            }
        }
    }

    /// The content on the wire.
    pub fn contents(&self, text: String) -> ResourceContents {
        ResourceContents::text(text, self.uri())
    }
}

/// All resources, as a client sees them.
pub fn listed() -> Vec<Listed> {
    Resource::LISTED.map(Resource::listed).to_vec()
}

/// Addresses with a part that the client fills in.
pub fn templates() -> Vec<ResourceTemplate> {
    let about = "One receipt, with the answer that was paid for while that is kept.";
    vec![
        ResourceTemplate::new(RECEIPT, "receipt")
            .with_title("Receipt")
            .with_description(about)
            .with_mime_type("text/plain"),
    ]
}

/// No such resource.
pub fn unknown(uri: &str) -> ErrorData {
    let uri = drain_protocol::text::one_line(uri, 80);
    let message = format!(
        "There is no resource {uri}; there are drain://wallet, drain://providers, drain://receipts and {RECEIPT}."
    );
    ErrorData::resource_not_found(message, Some(json!({ "uri": uri })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_names_one_resource() {
        for resource in Resource::LISTED.into_iter().chain([Resource::Receipt("c17-5".into())]) {
            assert_eq!(Resource::find(&resource.uri()), Some(resource));
        }
        for wrong in ["drain://receipts/", "drain://receipts/c1/../x", "drain://receipts/{receipt}", "drain://wallet/x"]
        {
            assert_eq!(Resource::find(wrong), None, "{wrong}");
        }
    }
}
