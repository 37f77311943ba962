//! One plain HTTP request, and all that is answered.

#![allow(dead_code)] // Each test binary uses its own part.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The answer to a GET: status line, head and body.
pub async fn get(address: SocketAddr, path: &str) -> String {
    send(address, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
}

/// The answer to a request with a body and further fields.
pub async fn request(address: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> String {
    let more: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{more}"
    );
    send(address, format!("{head}\r\n{body}")).await
}

/// The answer to any request that asks for the connection to be closed.
pub async fn send(address: SocketAddr, request: String) -> String {
    let mut stream = TcpStream::connect(address).await.expect("somebody listens");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("answered in time").expect("answered");
    answer
}
