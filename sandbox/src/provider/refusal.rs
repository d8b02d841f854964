//! Refusals as they go over the wire: codes, headers and the three bodies (protocol.md sections 5.6, 6.2, 6.3).

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::provider::chat::HOSTILE;
use crate::provider::faults::Dialect;

/// Why a request was not served.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
    /// `X-DRAIN-Required`: of this request, not cumulative.
    pub(crate) required: Option<String>,
    /// `X-DRAIN-Provided`: may be negative.
    pub(crate) provided: Option<String>,
}

impl Refusal {
    /// A payment refused by the validation of its voucher.
    pub(crate) fn payment(code: impl Into<String>) -> Self {
        let code = code.into();
        let message = format!("Payment validation failed: {code}");
        Self { status: StatusCode::PAYMENT_REQUIRED, code, message, required: None, provided: None }
    }

    /// A refusal that has nothing to do with the voucher.
    pub(crate) fn other(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), required: None, provided: None }
    }

    /// The response; `None` where Node would throw instead of answering, because a header cannot hold the code.
    pub(crate) fn respond(&self, dialect: Dialect, hostile: bool) -> Option<Response> {
        if hostile {
            let words = format!("{}{HOSTILE}", self.message);
            let code = HOSTILE.replace(char::is_control, "");
            let headers = HeaderValue::from_bytes(code.as_bytes()).ok().map(|code| [("x-drain-error", code)]);
            let body = json!({"error": {"message": words, "code": HOSTILE}});
            return Some((self.status, headers?, json_body(&body)).into_response());
        }
        let mut headers = HeaderMap::new();
        let payment = self.status == StatusCode::PAYMENT_REQUIRED;
        if payment && dialect != Dialect::B {
            headers.insert("x-drain-error", HeaderValue::from_str(&self.code).ok()?);
            set(&mut headers, "x-drain-required", self.required.as_deref());
            set(&mut headers, "x-drain-provided", self.provided.as_deref());
        }
        Some((self.status, headers, json_body(&self.body(dialect))).into_response())
    }

    fn body(&self, dialect: Dialect) -> Value {
        let payment = self.status == StatusCode::PAYMENT_REQUIRED;
        match (dialect, self.code.as_str()) {
            (Dialect::C, code) => json!({"error": code}),
            (Dialect::B, "invalid_voucher_format") => json!({"error": {"message": "Invalid voucher format."}}),
            (Dialect::B, code) if payment => {
                let mut body = json!({"error": {"message": format!("Voucher error: {code}")}});
                if let Some(required) = &self.required {
                    body["required"] = json!(required);
                }
                body
            }
            (Dialect::B, _) => json!({"error": {"message": self.message}}),
            (Dialect::A, code) => {
                let kind = if payment { "payment_required" } else { "invalid_request_error" };
                json!({"error": {"message": self.message, "type": kind, "code": code}})
            }
        }
    }
}

/// The 402 of a request without a voucher, with the discovery headers if any.
pub(crate) fn voucher_required(dialect: Dialect, discovery: HeaderMap) -> Response {
    let body = match dialect {
        Dialect::A => json!({"error": {
            "message": "X-DRAIN-Voucher header required", "type": "payment_required", "code": "voucher_required"}}),
        Dialect::B => json!({"error": {"message": "Payment required. Include X-DRAIN-Voucher header."}}),
        Dialect::C => json!({"error": "voucher_required"}),
    };
    let mut headers = discovery;
    if dialect != Dialect::B {
        headers.insert("x-drain-error", HeaderValue::from_static("voucher_required"));
    }
    (StatusCode::PAYMENT_REQUIRED, headers, json_body(&body)).into_response()
}

/// What Express says about a route that it does not have.
pub(crate) fn not_found(method: &str, path: &str) -> Response {
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n<body>\n\
         <pre>Cannot {method} {path}</pre>\n</body>\n</html>\n"
    );
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// A JSON body with Express's content type.
pub(crate) fn json_body(value: &Value) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], Body::from(value.to_string()))
}

/// Sets a header where there is a value that a header can hold.
pub(crate) fn set(headers: &mut HeaderMap, name: &'static str, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
