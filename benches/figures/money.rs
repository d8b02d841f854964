//! Figures about money: what is signed too much, how far a deposit goes, whether parallel requests are paid.

use std::time::{Duration, Instant};

use drain_protocol::Usdc;
use drain_protocol::pricing::{Price, request_bound};
use serde_json::Value;

use crate::errors::Result;
use crate::machine::Shares;
use crate::report::Row;
use crate::stats::{RUNS, median, range};
use crate::world::{COST, World, chat, messages};

const CHATS: usize = 100;
const PARALLEL: usize = 32;
const PRICE: Price = Price::PerToken { input_per_1k: Usdc::new(225), output_per_1k: Usdc::new(900) };

fn units(data: &Value, field: &str) -> Result<u64> {
    let amount: Usdc = data[field].as_str().ok_or("an amount is missing")?.parse()?;
    Ok(amount.units())
}

/// Figure 1: how much more is signed than charged, looked at after each chat.
pub fn signed_to_charged(world: &mut World) -> Result<Vec<Row>> {
    let mut shares = Shares::default();
    let (mut ratios, mut worst) = (Vec::new(), 0.0_f64);
    for _ in 0..RUNS {
        let mut session = world.session(&[])?;
        let channel = session.open("1")?;
        let request = chat(&channel);
        let (server, stub) = (session.server.pid(), session.stub);
        let ratio = shares.during(server, stub, || {
            // Of the voucher with the highest amount: later requests may be bounded lower and live on what it left.
            let (mut ratio, mut bound) = (f64::NAN, 0);
            for _ in 0..CHATS {
                session.server.run(&request)?;
                let answer = session.server.last()?;
                let sent = answer["result"]["structuredContent"]["max_tokens_sent"].as_u64();
                let sent = u32::try_from(sent.ok_or("the answer does not say which max_tokens was sent")?)?;
                let status = session.status(&channel)?;
                let (signed, charged) = (units(&status, "signed")?, units(&status, "charged")?);
                bound = bound.max(request_bound(&PRICE, &messages(), sent).units());
                worst = worst.max(signed.saturating_sub(charged) as f64 / bound as f64);
                ratio = signed as f64 / charged as f64;
            }
            Ok(ratio)
        })?;
        ratios.push(ratio);
    }
    let ratio = median(ratios);
    Ok(vec![
        Row::new("signed / charged after 100 chats, no maxTokens", "<= 1.10", format!("{ratio:.3}"), ratio <= 1.10)
            .beside(shares),
        Row::new(
            "overhang (signed - charged) after each of them",
            "<= bound of one request",
            format!("at most {worst:.2} of the largest bound"),
            worst <= 1.0,
        ),
    ])
}

/// Figure 2: chats until the deposit is refused.
pub fn chats_out_of_a_deposit(world: &mut World) -> Result<Vec<Row>> {
    const DEPOSIT: u64 = 100_000;
    let possible = DEPOSIT / COST;
    let mut shares = Shares::default();
    let mut counts = Vec::new();
    let mut refusal = String::new();
    for _ in 0..RUNS {
        let mut session = world.session(&[])?;
        let request = chat(&session.open("0.10")?);
        let (server, stub) = (session.server.pid(), session.stub);
        let count = shares.during(server, stub, || {
            let mut count = 0;
            while count <= possible {
                session.server.send(&request)?;
                if !session.server.receive()?.good {
                    break;
                }
                count += 1;
            }
            Ok(count)
        })?;
        let last = session.server.last()?;
        refusal = last["result"]["structuredContent"]["code"].as_str().unwrap_or("no refusal").to_owned();
        counts.push(count as f64);
    }
    let count = median(counts);
    let row = Row::new(
        &format!("chats out of a $0.10 deposit, of {possible} possible"),
        ">= 1000",
        format!("{count:.0}"),
        count >= 1_000.0,
    );
    Ok(vec![row.beside(format!("then {refusal}")).beside(shares)])
}

/// Figure 3: requests that come all at once on one channel.
pub fn parallel_on_one_channel(world: &mut World) -> Result<Vec<Row>> {
    let mut shares = Shares::default();
    let (mut answered, mut times) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let mut session = world.session(&[])?;
        let request = chat(&session.open("1")?);
        let (server, stub) = (session.server.pid(), session.stub);
        let start = Instant::now();
        let good = shares.during(server, stub, || {
            for _ in 0..PARALLEL {
                session.server.send(&request)?;
            }
            let mut good = 0;
            for _ in 0..PARALLEL {
                good += usize::from(session.server.receive()?.good);
            }
            Ok(good)
        })?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        answered.push(good as f64);
    }
    let (fewest, _) = range(&answered);
    let row = Row::new(
        "32 parallel chats on one channel",
        "32 answered",
        format!("{fewest:.0} answered (fewest of {RUNS} runs)"),
        fewest == PARALLEL as f64,
    );
    Ok(vec![row.beside(format!("all of them in {:.0} ms", median(times))).beside(shares)])
}

/// Figure 4: requests to the chain's node while chats run and the watcher is quiet.
pub fn chain_calls(world: &mut World) -> Result<Vec<Row>> {
    let mut shares = Shares::default();
    let mut calls = Vec::new();
    for _ in 0..RUNS {
        // The watcher looks once at the start, then not again while this lasts.
        let mut session = world.session(&[("DRAIN_POLL_INTERVAL", "1h")])?;
        let request = chat(&session.open("1")?);
        std::thread::sleep(Duration::from_millis(500));
        let before = world.stub.chain_calls()?;
        let (server, stub) = (session.server.pid(), session.stub);
        shares.during(server, stub, || (0..CHATS).try_for_each(|_| session.server.run(&request)))?;
        calls.push((world.stub.chain_calls()? - before) as f64 / CHATS as f64);
    }
    let (_, most) = range(&calls);
    let row = Row::new("chain calls per chat", "0", format!("{most} (most of {RUNS} runs of 100)"), most == 0.0);
    Ok(vec![row.beside("the watcher's polls, one each DRAIN_POLL_INTERVAL, apart").beside(shares)])
}
