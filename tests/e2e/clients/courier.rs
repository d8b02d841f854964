//! Who brings a request to its server, and what is paid with it otherwise than it was sent: twice, or late.

use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::response::Response;
use tokio::sync::watch;

use crate::process_harness::Answer;

/// The headers that a payment is in.
const PAYMENTS: [&str; 3] = ["authorization", "payment-signature", "x-payment"];
const MOST: usize = 1 << 20;

/// What becomes of a request that pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is brought again at once, and only the second answer comes back.
    Twice,
    /// It is kept as long as [`Courier::late`] says.
    Late,
}

/// A server's neighbour, at an address of its own.
pub struct Courier {
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    way: Way,
    /// The statuses with which the server answered what was paid.
    answered: Mutex<Vec<u16>>,
    /// How many payments came.
    came: watch::Sender<usize>,
    released: watch::Sender<bool>,
    client: reqwest::Client,
}

impl Courier {
    pub async fn start(server: &str, way: Way) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            way,
            answered: Mutex::default(),
            came: watch::Sender::new(0),
            released: watch::Sender::new(false),
            client: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap(),
        });
        let app = axum::Router::new().fallback(pass).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, shared }
    }

    /// What becomes of a call whose payment is brought late: when it came, `meanwhile` happens first.
    pub async fn late<T>(&self, call: impl Future<Output = T>, meanwhile: impl Future<Output = ()>) -> T {
        let between = async {
            self.shared.came.subscribe().wait_for(|came| *came > 0).await.unwrap();
            meanwhile.await;
            self.shared.released.send_replace(true);
        };
        tokio::pin!(call);
        // A call that pays nothing ends first.
        tokio::select! {
            result = &mut call => result,
            () = between => call.await,
        }
    }

    /// One payment left, its server refused it in the end, and whoever paid is told that there is no answer.
    pub fn one_was_refused(&self, what: &str, told: &Answer) {
        let (came, statuses) = (*self.shared.came.borrow(), self.shared.answered.lock().unwrap().clone());
        println!("{what}: {statuses:?} {}", told.text);
        assert_eq!(came, 1, "{what}: {}", told.text);
        let refused = statuses.last().is_some_and(|status| [402, 500].contains(status));
        assert!(refused, "{what}: {statuses:?}: {}", told.text);
        assert!(told.is_error, "{what}: {}", told.text);
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, MOST).await.unwrap();
    for unneeded in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        parts.headers.remove(unneeded);
    }
    let pays = PAYMENTS.iter().any(|header| parts.headers.contains_key(*header));
    let bring = async || {
        let url = format!("{}{}", shared.server, parts.uri);
        let sent = shared.client.request(parts.method.clone(), url).headers(parts.headers.clone()).body(body.clone());
        let answer = sent.send().await.unwrap();
        if pays {
            shared.answered.lock().unwrap().push(answer.status().as_u16());
        }
        answer
    };
    if pays {
        shared.came.send_modify(|came| *came += 1);
        match shared.way {
            Way::Twice => drop(bring().await),
            Way::Late => drop(shared.released.subscribe().wait_for(|released| *released).await.unwrap()),
        }
    }
    let answer = bring().await;
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| **name != TRANSFER_ENCODING) {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}
