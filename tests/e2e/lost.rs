//! Answers that never come: what was paid for is known, reserved or not spent, and said so (M15).

use drain_mcp::actors::Runtime;
use drain_mcp::error::{Code, Money};
use drain_protocol::Usdc;
use drain_sandbox::provider::{Faults, Times};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{
    World, ask, call, credit, failed, figures, in_system, llm, open, pay, reserved, unspent, usdc, view, vouchers,
};

/// Every way to lose an answer after the voucher left, with what the books of an honest provider then say.
#[test]
fn m15_a_lost_answer_stays_reserved_until_a_total_tells() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        type Fault = fn(&mut Faults);
        let losses: [(Fault, Code); 7] = [
            (|faults| faults.hang = Times::next(1), Code::AnswerLost),
            (|faults| faults.cut_before_answer = Times::next(1), Code::AnswerLost),
            (|faults| faults.redirect = Some((307, "http://127.0.0.1:1/".into())), Code::AnswerLost),
            (|faults| (faults.html_answer, faults.forged_headers.omit) = (Times::next(1), true), Code::AnswerLost),
            (|faults| (faults.empty_answer, faults.forged_headers.omit) = (Times::next(1), true), Code::AnswerLost),
            (|faults| faults.fail_500 = Times::next(1), Code::ProviderFailed),
            (|faults| faults.post_check_failure = Times::next(1), Code::ProviderFailed),
        ];
        for (number, (fault, code)) in losses.into_iter().enumerate() {
            let before = (view(&runtime, channel).await, vouchers(&world.sandbox.llm).len());
            world.sandbox.llm.set(fault);
            world.sandbox.llm.set(|faults| faults.keep_voucher_on_failure = true);
            let at_most = reserved(ask(&runtime, channel, "sim-small", "Tell me a short story").await, code);
            assert_eq!(vouchers(&world.sandbox.llm).len(), before.1 + 1, "loss {number} was repeated");
            let held = view(&runtime, channel).await;
            assert_eq!((held.in_flight, held.charged), (at_most, before.0.charged), "loss {number}");
            assert!(held.signed >= held.charged.saturating_add(held.in_flight), "loss {number}");
            world.sandbox.llm.reset_faults();
            let paid = ask(&runtime, channel, "sim-small", &"another question ".repeat(number + 2)).await.unwrap();
            let books = world.sandbox.llm.books(channel.0).unwrap();
            assert_eq!(
                (paid.channel.in_flight, paid.channel.charged.units()),
                (Usdc::ZERO, books.total_charged),
                "loss {number}"
            );
            // As the journal has it, not only the memory.
            assert_eq!(view(&runtime, channel).await.in_flight, Usdc::ZERO, "loss {number}");
            // So many losses would set the provider aside, which is another test's matter.
            runtime.trust_provider("sim-llm").await.unwrap();
        }
    });
}

/// The head of the answer came, with its cost; the rest did not.
#[test]
fn m15_a_lost_answer_whose_cost_was_stated_is_booked() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        type Fault = fn(&mut Faults);
        let losses: [Fault; 3] = [
            |faults| faults.cut_mid_body = Times::next(1),
            |faults| faults.endless_body = Times::next(1),
            |faults| faults.oversized_body = Some(2 << 20),
        ];
        for (number, fault) in (1..).zip(losses) {
            world.sandbox.llm.set(fault);
            let failure = failed(ask(&runtime, channel, "sim-small", "Tell me a story").await, Code::AnswerLost);
            world.sandbox.llm.reset_faults();
            let Money::Spent { amount, .. } = failure.money else { panic!("{failure:?}") };
            let (view, books) = (view(&runtime, channel).await, world.sandbox.llm.books(channel.0).unwrap());
            assert_eq!((view.charged.units(), view.in_flight), (books.total_charged, Usdc::ZERO));
            assert_eq!(
                (amount.units() * number, vouchers(&world.sandbox.llm).len() as u64),
                (books.total_charged, number)
            );
        }
        // A cost above the bound is not believed here either.
        world.sandbox.llm.set(|faults| {
            faults.cut_mid_body = Times::next(1);
            faults.forged_headers.cost = Some("900000".into());
        });
        let before = view(&runtime, channel).await;
        let failure = failed(ask(&runtime, channel, "sim-small", "Tell me a story").await, Code::AnswerLost);
        let Money::Spent { amount, .. } = failure.money else { panic!("{failure:?}") };
        let after = view(&runtime, channel).await;
        assert!(amount <= after.signed && after.signed.units() < 2_000 && !after.disputed.is_zero(), "{after:?}");
        assert_eq!(after.charged, before.charged.saturating_add(amount));
    });
}

/// The runtime after a restart in which every channel's provider is reached at `url`.
async fn moved(world: &World, runtime: Runtime, url: &str) -> Runtime {
    drop(runtime);
    world.journal().execute("UPDATE channels SET api_url = ?1", [url]).unwrap();
    world.runtime().await
}

#[test]
fn what_was_never_sent_is_not_spent() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        // Nothing listens on the port of a provider that is gone.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let runtime = moved(&world, runtime, &format!("http://{free}/")).await;
        unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderUnreachable);
        let books = view(&runtime, channel).await;
        assert!(books.in_flight.is_zero() && books.charged.is_zero());
        let runtime = moved(&world, runtime, &world.sandbox.llm.url()).await;
        // The voucher of the first try was recorded: it pays for this one.
        let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert_eq!((paid.channel.signed, figures(&world.sandbox.llm).len()), (books.signed, 1));
    });
}

/// Answers every request with these bytes, whatever it was.
async fn says(answer: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    });
    url
}

#[test]
fn m15_what_does_not_say_that_no_work_was_done_stays_reserved() {
    in_system(async {
        let world = World::start().await;
        let mut runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let answers: [(&[u8], Code); 9] = [
            // A stream that nobody asked for and that ends in an error: some of it may be billed.
            (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: {\"error\": \"boom\"}\n\n", Code::ProviderFailed),
            // The provider's supplier failed, under a status of its own choice.
            (b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n{\"error\": \"openai_error\"}", Code::ProviderFailed),
            // The code says "before the work", the status does not.
            (
                b"HTTP/1.1 500 Oops\r\nconnection: close\r\n\r\n{\"error\": {\"code\": \"input_too_large\"}}",
                Code::ProviderFailed,
            ),
            // Whoever stands between stopped waiting; the provider works on.
            (b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n<html>haproxy</html>", Code::ProviderFailed),
            (b"HTTP/1.1 425 Too Early\r\nconnection: close\r\n\r\n{}", Code::ProviderFailed),
            (b"HTTP/1.1 499 Client Closed Request\r\nconnection: close\r\n\r\n{\"error\": \"closed\"}", Code::ProviderFailed),
            (b"HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n<html>nginx</html>", Code::ProviderFailed),
            (b"SMTP ready\r\n", Code::AnswerLost),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n{", Code::AnswerLost),
        ];
        let mut unknown = usdc("0");
        for (answer, code) in answers {
            runtime = moved(&world, runtime, &says(answer).await).await;
            let at_most = reserved(ask(&runtime, channel, "sim-small", "Hello").await, code);
            unknown = unknown.saturating_add(at_most);
            assert_eq!(view(&runtime, channel).await.in_flight, unknown, "{}", String::from_utf8_lossy(answer));
            runtime.trust_provider("sim-llm").await.unwrap();
        }
        // The provider's own word under such a status: no work was done.
        let answer = b"HTTP/1.1 408 Request Timeout\r\nX-DRAIN-Error: model_not_supported\r\nconnection: close\r\n\r\n";
        runtime = moved(&world, runtime, &says(answer).await).await;
        credit(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderRefused);
        assert_eq!(view(&runtime, channel).await.in_flight, unknown);
    });
}

#[test]
fn requests_of_unknown_outcome_do_not_use_up_a_channel() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.impatient().await;
        // Two of the bounds that nobody named a length for do not fit.
        let channel = open(&runtime, "sim-llm", "0.0012", "24h").await.unwrap();
        for _ in 0..6 {
            world.sandbox.llm.set(|faults| faults.fail_500 = Times::next(1));
            reserved(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderFailed);
            runtime.trust_provider("sim-llm").await.unwrap();
        }
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();

        // One that does not tell: what is unknown stays reserved, and is asked for again.
        world.sandbox.llm.set(|faults| faults.hang = Times::ALWAYS);
        let mut long = call(channel, "sim-small", "Hello");
        long.max_tokens = Some(5_000);
        let held = reserved(pay(&runtime, long.clone()).await, Code::AnswerLost);
        world.sandbox.llm.set(|faults| faults.validation_error = Times::ALWAYS);
        unspent(pay(&runtime, long.clone()).await, Code::ChannelExhausted);
        assert_eq!(view(&runtime, channel).await.in_flight, held);
        world.sandbox.llm.reset_faults();
        let paid = pay(&runtime, long).await.unwrap();
        let books = world.sandbox.llm.books(channel.0).unwrap();
        assert_eq!((paid.channel.in_flight, paid.channel.charged.units()), (Usdc::ZERO, books.total_charged));
    });
}

/// Its totals may always hold the last cost twice, and so never tell what became of an older request.
#[test]
fn a_double_counter_does_not_use_up_a_channel_by_failing() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.impatient().await;
        let channel = open(&runtime, "sim-llm", "0.003", "24h").await.unwrap();
        for _ in 0..8 {
            world.sandbox.llm.set(|faults| (faults.double_count_totals, faults.fail_500) = (true, Times::next(1)));
            reserved(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderFailed);
            let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
            assert!(paid.disputed.is_zero());
            runtime.trust_provider("sim-llm").await.unwrap();
        }
        let (books, held) = (world.sandbox.llm.books(channel.0).unwrap(), view(&runtime, channel).await);
        assert_eq!(held.charged.units(), books.total_charged);
    });
}
