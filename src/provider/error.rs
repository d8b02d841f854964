//! How a failed exchange with a provider reads for people and agents (M15).

use drain_protocol::headers::CostHeaders;
use drain_protocol::text::quoted;

use crate::error::{Code, Failure, Money};
use crate::http_client::{CallError, CallErrorReason, HttpError};

/// A call to a provider that carries no money failed.
pub type ProviderError = CallError;

const INSECURE: &str = "Only the operator can allow http and private addresses (DRAIN_ALLOW_INSECURE), and only for a provider on their own network.";

fn code_and_next(error: &HttpError) -> (Code, String) {
    match error {
        HttpError::Refused(_) => (Code::UrlRefused, INSECURE.into()),
        HttpError::NoRoots => (Code::ProviderUnreachable, "Install the CA certificates on this machine.".into()),
        HttpError::Redirect { .. } => {
            (Code::UrlRefused, "The provider must list the URL at which it answers; use another provider.".into())
        }
        _ => (Code::ProviderUnreachable, "Try again later, or use another provider.".into()),
    }
}

impl CallError {
    /// The failure of a call to the provider `provider_name` that carried no voucher.
    pub fn into_failure(self, provider_name: &str) -> Failure {
        let (code, next) = match &self.reason {
            CallErrorReason::Http(error) => code_and_next(error),
            CallErrorReason::Close(_) | CallErrorReason::Status { .. } | CallErrorReason::Shape(_) => {
                (Code::ProviderUnreachable, "Try again later, or use another provider.".into())
            }
        };
        Failure::unspent(code, format!("{}: {self}.", quoted(provider_name, 60)), next)
    }
}

/// A paid request gave neither an answer nor a refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// No whole answer came.
    #[error("{error}")]
    Lost {
        /// Why.
        error: HttpError,
        /// What the head of the answer said about the cost, when at least that came.
        costs: Box<CostHeaders>,
        /// What came of the text of a streamed answer before it broke off (untrusted); `None` for one that was not streamed.
        came: Option<String>,
    },
    /// A success that is no answer and names no cost: an HTML page, nothing, garbage.
    #[error("HTTP {status} with {} instead of an answer", if .excerpt.is_empty() { "nothing".to_owned() } else { quoted(.excerpt, 120) })]
    Nonsense {
        /// The status.
        status: u16,
        /// What the answer says it is, cleaned.
        content_type: Option<String>,
        /// Its beginning, cleaned.
        excerpt: String,
    },
    /// The request cannot be written down: nothing was sent.
    #[error("the request cannot be sent: {0}")]
    Unsendable(&'static str),
}

impl ChatError {
    /// True when the voucher cannot have reached the provider.
    pub const fn before_sent(&self) -> bool {
        match self {
            Self::Lost { error, .. } => error.before_sent(),
            Self::Nonsense { .. } => false,
            Self::Unsendable(_) => true,
        }
    }

    /// What the provider said about the cost before the answer was lost.
    pub const fn costs(&self) -> Option<&CostHeaders> {
        match self {
            Self::Lost { costs, .. } => Some(costs),
            _ => None,
        }
    }

    /// What came of the text of a streamed answer before it broke off (untrusted).
    pub fn came(&self) -> Option<&str> {
        match self {
            Self::Lost { came, .. } => came.as_deref(),
            _ => None,
        }
    }

    /// The failure. `money` is the fate of the money if the voucher may have arrived; otherwise nothing was spent.
    pub fn into_failure(self, provider_name: &str, money: Money) -> Failure {
        let name = quoted(provider_name, 60);
        if !self.before_sent() {
            let next = "Do not send the request again by itself: the provider may have done the work. Ask for the outcome with the receipt.";
            return Failure::unspent(Code::AnswerLost, format!("{name}: {self}."), next).with_money(money);
        }
        match &self {
            Self::Lost { error, .. } => {
                let (code, next) = code_and_next(error);
                Failure::unspent(code, format!("{name}: {self}."), next)
            }
            _ => Failure::internal(format!("{name}: {self}.")),
        }
    }
}
