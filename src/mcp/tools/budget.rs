//! `drain_budget`: the caller's limits, what is left of them, and what was paid for.

use drain_protocol::text::untrusted;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{BudgetView, Effect, ReceiptDetails, ReceiptQuery, ReceiptView};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::media::{MAX_SHOWN, pieces, uri};
use crate::mcp::{render, schema};

/// Receipts that are listed.
const NEWEST: u32 = 5;

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_budget",
    title: "Budget",
    about: "Your limits, what is used and left of each, when it is free again, when a person is asked, and the last \
            receipts. With receipt: that one and the answer that was paid for. Free. Only a person changes a limit.",
    hints: Hints::READ,
    effect: Effect::Repeatable,
    params: &[Param::optional("receipt", Kind::Text, "Such as c1-2")],
    output: schema::output_schema::<Reply>,
    run: |runtime, args, _| Box::pin(run(runtime, args)),
};

#[derive(Serialize, JsonSchema)]
struct Reply {
    #[serde(flatten)]
    budget: BudgetView,
    /// The last ones, or the one that was asked for.
    #[schemars(with = "Vec<Receipt>")]
    receipts: Vec<Map<String, Value>>,
    /// Of the receipt that was asked for: the provider's text, or its first part.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

/// What a schema says of a receipt: its fields are told by their names.
#[derive(JsonSchema)]
struct Receipt {}

async fn run(runtime: Runtime, args: Args) -> Result<Answer, Failure> {
    let asked = args.text("receipt")?;
    let budget = runtime.budget().await?;
    match asked {
        Some(id) => one(budget, runtime.receipt(&id).await?),
        None => {
            let newest = ReceiptQuery { limit: NEWEST, ..ReceiptQuery::default() };
            show(budget, &runtime.receipts(newest).await?)
        }
    }
}

/// The limits and the last receipts.
pub(crate) fn show(budget: BudgetView, receipts: &[ReceiptView]) -> Result<Answer, Failure> {
    let text = format!("{}\nLast receipts:\n{}", render::budget(&budget), render::receipts(receipts));
    Answer::new(&Reply { budget, receipts: receipts.iter().map(object).collect(), answer: None }, &[], text)
}

fn one(budget: BudgetView, details: ReceiptDetails) -> Result<Answer, Failure> {
    let ReceiptDetails { receipt, answer } = details;
    let mut text = render::receipt(&receipt);
    let pieces = answer.map(|answer| pieces(&answer.text(), &receipt.receipt));
    match &pieces {
        None => text.push_str(&format!("\n{}", render::without_answer(&receipt))),
        Some(pieces) => {
            text.push_str(&format!("\n{}", render::fence("provider answer", &pieces.text, MAX_SHOWN)));
            if pieces.truncated {
                text.push_str(&format!(
                    "\nThis is the first part; the whole answer is attached as {}.",
                    uri(&receipt.receipt)
                ));
            }
        }
    }
    let reply = Reply {
        budget,
        receipts: vec![object(&receipt)],
        answer: pieces.as_ref().map(|pieces| untrusted(&pieces.text, MAX_SHOWN)),
    };
    let answer = Answer::new(&reply, &["answer"], text)?;
    Ok(pieces.into_iter().flat_map(|pieces| pieces.blocks).fold(answer, Answer::attach))
}

fn object(receipt: &ReceiptView) -> Map<String, Value> {
    match serde_json::to_value(receipt) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}
