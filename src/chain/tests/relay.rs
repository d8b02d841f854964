//! A relay in front of a node, which says something else than the node where a test wants it.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The URL of a relay: `lie` gets the method, the parameters and the node's whole answer, and may change the answer.
pub async fn relay(node: &str, lie: impl Fn(&str, &Value, &mut Value) + Send + Sync + 'static) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (node, client, lie) = (node.to_owned(), reqwest::Client::new(), Arc::new(lie));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (node, client, lie) = (node.clone(), client.clone(), lie.clone());
            tokio::spawn(async move {
                let request = read(&mut stream).await?;
                let mut answer: Value = client.post(node).json(&request).send().await.ok()?.json().await.ok()?;
                lie(request["method"].as_str()?, &request["params"], &mut answer);
                let body = answer.to_string();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                stream.write_all((head + &body).as_bytes()).await.ok()
            });
        }
    });
    format!("http://{address}")
}

async fn read(stream: &mut TcpStream) -> Option<Value> {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&request);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(request) = serde_json::from_str(body)
        {
            return Some(request);
        }
    }
}

/// A JSON-RPC error in place of an answer.
pub fn error(code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": code, "message": message } })
}
