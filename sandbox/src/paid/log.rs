//! Every request, for tests to look at.

use alloy::primitives::{Address, B256, Bytes, U256};

use super::Shared;
use super::token::Authorization;
use crate::provider::lock;

/// How a request was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `Authorization: Payment`.
    Mpp,
    /// `PAYMENT-SIGNATURE`.
    X402V2,
    /// `X-PAYMENT`.
    X402V1,
}

/// A credential that could be read, accepted or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// What it came over.
    pub protocol: Protocol,
    /// Who pays.
    pub from: Address,
    /// Who is paid.
    pub to: Address,
    /// Base units.
    pub value: U256,
    /// Unix seconds.
    pub valid_after: U256,
    /// Unix seconds.
    pub valid_before: U256,
    /// EIP-3009's nonce.
    pub nonce: B256,
    /// As sent.
    pub signature: Bytes,
    /// The token that it was checked for.
    pub asset: Address,
    /// Every check passed.
    pub verified: bool,
    /// The transaction that took the money.
    pub settled: Option<B256>,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidRequest {
    /// GET, POST and so on.
    pub method: String,
    /// Path with the query.
    pub path: String,
    /// Names in lower case, in order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What was answered; `None` while nothing is, and after a reset.
    pub status: Option<u16>,
    /// The credential, where one could be read.
    pub credential: Option<Credential>,
}

impl PaidRequest {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A request's place in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket(usize);

impl Shared {
    pub(crate) fn open_ticket(&self, request: PaidRequest) -> Ticket {
        let mut log = lock(&self.log);
        log.push(request);
        Ticket(log.len() - 1)
    }

    fn change(&self, ticket: Ticket, change: impl FnOnce(&mut PaidRequest)) {
        if let Some(request) = lock(&self.log).get_mut(ticket.0) {
            change(request);
        }
    }

    pub(crate) fn answered(&self, ticket: Ticket, status: u16) {
        self.change(ticket, |request| request.status = Some(status));
    }

    /// Writes a credential down before it is checked.
    pub(crate) fn presented(&self, ticket: Ticket, protocol: Protocol, authorization: &Authorization, asset: Address) {
        let credential = Credential {
            protocol,
            from: authorization.from,
            to: authorization.to,
            value: authorization.value,
            valid_after: authorization.valid_after,
            valid_before: authorization.valid_before,
            nonce: authorization.nonce,
            signature: authorization.signature.clone(),
            asset,
            verified: false,
            settled: None,
        };
        self.change(ticket, |request| request.credential = Some(credential));
    }

    pub(crate) fn verified(&self, ticket: Ticket) {
        self.change(ticket, |request| {
            if let Some(credential) = &mut request.credential {
                credential.verified = true;
            }
        });
    }

    pub(crate) fn settled(&self, ticket: Ticket, transaction: B256) {
        self.change(ticket, |request| {
            if let Some(credential) = &mut request.credential {
                credential.settled = Some(transaction);
            }
        });
    }

    /// What is verified and not settled.
    pub(crate) fn held(&self) -> Vec<(Ticket, Authorization, Address)> {
        let log = lock(&self.log);
        let credentials = log.iter().enumerate().filter_map(|(at, request)| Some((at, request.credential.as_ref()?)));
        credentials
            .filter(|(_, credential)| credential.verified && credential.settled.is_none())
            .map(|(at, credential)| (Ticket(at), Authorization::from(credential), credential.asset))
            .collect()
    }
}
