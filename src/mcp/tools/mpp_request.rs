//! `mpp_request`: a request that is paid by MPP, with upstream's arguments.

use super::{Definition, Hints, pay_request};
use crate::actors::Runtime;
use crate::api::{Effect, PaymentCall, Progress};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::schema;

/// The tool.
pub const TOOL: Definition = Definition {
    name: "mpp_request",
    title: "MPP request",
    about: "pay_request by MPP alone; POST unless given.",
    hints: Hints { read_only: false, destructive: true, idempotent: false, open_world: true },
    effect: Effect::Pays,
    params: &[
        Param::required("url", Kind::Text, ""),
        Param::optional("body", Kind::Object, ""),
        Param::optional("method", Kind::Text, ""),
    ],
    output: schema::output_schema::<pay_request::Reply>,
    run: |runtime, args, progress| Box::pin(run(runtime, args, progress)),
};

async fn run(runtime: Runtime, args: Args, progress: Progress) -> Result<Answer, Failure> {
    let call = PaymentCall { mpp_only: true, ..pay_request::call(&args, Some("POST"))? };
    pay_request::answered(runtime.pay_request(call, progress).await?, |text| text)
}
