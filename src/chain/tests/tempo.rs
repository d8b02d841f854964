//! What becomes of a payment over Tempo, by nodes that forget, lag and lie.

use alloy::primitives::B256;
use axum::extract::State;
use axum::{Json, Router, routing::post};
use serde_json::{Value, json};

use super::*;

const HASH: B256 = B256::repeat_byte(0x76);
const OWN: Address = Address::repeat_byte(0xab);
const MEMO: B256 = B256::repeat_byte(0xef);
/// The block in which it is, where it is anywhere; each block is a second after the one before.
const PLACE: u64 = 1_000;
const VALID_BEFORE: u64 = time(PLACE + 3);
const LAST: u64 = 5_000;

const fn time(number: u64) -> u64 {
    1_800_000_000 + number
}

/// What a node says.
#[derive(Clone, Copy)]
struct Node {
    /// The block that holds the transaction.
    holds: Option<u64>,
    /// What its receipt says of gas: how much, and its price.
    receipt: Option<(u64, u64)>,
    /// Later by so many seconds than it is.
    slow: u64,
}

impl Node {
    fn answer(self, request: &Value) -> Value {
        let number = |value: &Value| u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
        let params = &request["params"];
        match request["method"].as_str().unwrap() {
            "eth_chainId" => json!("0x89"),
            "eth_blockNumber" => json!(format!("{LAST:#x}")),
            "eth_getTransactionReceipt" => match (self.receipt, self.holds) {
                (Some((gas, price)), Some(number)) => json!({
                    "transactionHash": HASH, "blockNumber": format!("{number:#x}"), "blockHash": B256::repeat_byte(1),
                    "status": "0x1", "logs": [], "gasUsed": format!("{gas:#x}"), "effectiveGasPrice": format!("{price:#x}"),
                }),
                _ => Value::Null,
            },
            "eth_getBlockByNumber" => {
                let number = number(&params[0]);
                let hash = if self.holds == Some(number) { HASH } else { B256::ZERO };
                // Others' transactions may repeat a memo.
                let from = if hash == HASH { OWN } else { Address::ZERO };
                let whole = json!({ "type": "0x76", "hash": hash, "from": from, "calls": [{ "to": OWN, "input": format!("0x95777d59{MEMO:x}") }] });
                json!({
                    "number": format!("{number:#x}"), "hash": B256::repeat_byte(2),
                    "timestamp": format!("{:#x}", time(number) - self.slow),
                    "transactions": if params[1] == true { json!([whole]) } else { json!([hash]) },
                })
            }
            other => panic!("{other}"),
        }
    }

    async fn start(self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let said = |State(node): State<Self>, Json(request): Json<Value>| async move {
            Json(json!({ "jsonrpc": "2.0", "id": request["id"], "result": node.answer(&request) }))
        };
        let app = Router::new().fallback(post(said)).with_state(self);
        tokio::spawn(async { axum::serve(listener, app).await });
        url
    }
}

/// What two of them say together: its outcome, and whether it is nowhere.
async fn told(one: Node, other: Node) -> (Result<Option<TempoOutcome>, ChainError>, Result<Search, ChainError>) {
    let (one, other) = (one.start().await, other.start().await);
    let chain = chain_on(&[&one, &other]);
    (chain.tempo_outcome(HASH, LAST).await, chain.tempo_search(Wanted::Hash(HASH), VALID_BEFORE, LAST).await)
}

const TAKEN: Node = Node { holds: Some(PLACE), receipt: Some((60_000, 20_000_000_000)), slow: 0 };
const FORGETS: Node = Node { receipt: None, ..TAKEN };
const NOWHERE: Node = Node { holds: None, receipt: None, slow: 0 };

/// M15: a receipt that is not there proves nothing: nodes forget receipts, and lag. Every block in which it could be is read.
#[tokio::test]
async fn m15_a_missing_receipt_alone_is_no_proof() {
    let (outcome, absent) = told(TAKEN, TAKEN).await;
    assert_eq!(outcome, Ok(Some(TempoOutcome { success: true, gas: Usdc::new(1_200) })));
    assert_eq!(absent, Ok(Search::At(HASH)));
    assert_eq!(told(FORGETS, FORGETS).await, (Ok(None), Ok(Search::At(HASH))));
    assert_eq!(told(NOWHERE, NOWHERE).await, (Ok(None), Ok(Search::Nowhere)));
    // One of two that hides it, whichever is asked first.
    assert_eq!(told(NOWHERE, FORGETS).await.1, Ok(Search::At(HASH)));
    assert_eq!(told(FORGETS, NOWHERE).await.1, Ok(Search::At(HASH)));
    assert!(matches!(told(TAKEN, NOWHERE).await.0, Err(ChainError::Disagreement { .. })));
}

/// The same where its server made the transaction: it is found by who signed it and by its memo.
#[tokio::test]
async fn m15_what_a_server_completed_is_found_by_its_memo() {
    for (one, other, found) in [
        (TAKEN, FORGETS, Some(Search::At(HASH))),
        (NOWHERE, NOWHERE, Some(Search::Nowhere)),
        // One of two alone finds nothing, and hides nothing.
        (NOWHERE, FORGETS, None),
        (FORGETS, NOWHERE, None),
        (TAKEN, Node { holds: Some(PLACE - 9), ..TAKEN }, None),
    ] {
        let chain = chain_on(&[&one.start().await, &other.start().await]);
        let search = async |from, memo| chain.tempo_search(Wanted::Memo { from, memo }, VALID_BEFORE, LAST).await;
        match (search(OWN, MEMO).await, found) {
            (Ok(at), Some(found)) => assert_eq!(at, found),
            (told, found) => {
                assert!(matches!(told, Err(ChainError::Disagreement { .. })) && found.is_none(), "{told:?}");
            }
        }
        assert_eq!(search(OWN, B256::ZERO).await, Ok(Search::Nowhere));
        assert_eq!(search(Address::repeat_byte(1), MEMO).await, Ok(Search::Nowhere));
    }
}

/// What cannot be read may be it: nothing is concluded.
#[test]
fn m15_a_transaction_that_cannot_be_read_is_not_somebody_elses() {
    let wanted = Wanted::Memo { from: OWN, memo: MEMO };
    let good = json!({ "type": "0x76", "hash": HASH, "from": OWN, "calls": [{ "input": format!("0x00{MEMO:X}") }] });
    assert_eq!(wanted.is(&good), Ok(Some(HASH)));
    for field in ["type", "hash", "from", "calls"] {
        let mut bad = good.clone();
        bad[field] = Value::Null;
        assert!(wanted.is(&bad).is_err(), "{field}");
    }
    assert!(wanted.is(&json!(HASH)).is_err());
    assert!(Wanted::Hash(HASH).is(&good).is_err());
    // Another kind of the account's own transactions.
    let plain = json!({ "type": "0x2", "hash": HASH, "from": OWN, "input": format!("0x{MEMO:x}") });
    assert_eq!(wanted.is(&plain), Ok(None));
}

/// One that lies about the times of blocks does not choose which are read.
#[tokio::test]
async fn m15_one_endpoint_does_not_choose_where_is_looked() {
    let late = Node { slow: 1_000, ..NOWHERE };
    let (_, absent) = told(late, FORGETS).await;
    assert_ne!(absent, Ok(Search::Nowhere));
    let (_, absent) = told(FORGETS, late).await;
    assert_ne!(absent, Ok(Search::Nowhere));
}

#[tokio::test]
async fn the_price_of_gas_is_told_alike() {
    let cheap = Node { receipt: Some((60_000, 1_000_000_000)), ..TAKEN };
    assert!(matches!(told(TAKEN, cheap).await.0, Err(ChainError::Disagreement { .. })));
}
