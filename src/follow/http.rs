//! One GET of the shop's number: a connection of its own each time, at most a few in a second.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::store::redis::reader::{Number, whole};

/// The number at `at` in the JSON that `url` answers.
pub(super) async fn number(url: &str, at: &str, end: Instant) -> Number {
    match timeout_at(end, get(url)).await {
        Err(_) => Number::Away("no answer in time".to_owned()),
        Ok(Err(why)) => Number::Away(why),
        Ok(Ok((status, _))) if status != http::StatusCode::OK => {
            Number::Odd(format!("the status is {status}"))
        }
        Ok(Ok((_, body))) => read(&body, at),
    }
}

fn read(body: &[u8], at: &str) -> Number {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return Number::Odd("the answer is no JSON".to_owned());
    };
    match json.pointer(at) {
        Some(Value::Number(n)) => whole(&n.to_string()),
        Some(Value::String(text)) => whole(text),
        Some(_) => Number::Odd(format!("what stands at {at} is no number")),
        None => Number::Odd(format!("nothing stands at {at}")),
    }
}

/// Status and body. An error says that the shop was not heard.
async fn get(url: &str) -> Result<(http::StatusCode, Bytes), String> {
    let uri: http::Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
    let host = uri.host().ok_or("it names no host")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or(80))).await;
    let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
    let shaken = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    // Ends with this function, whatever the shop does.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let request = http::Request::get(path)
        .header(http::header::HOST, authority)
        .header(http::header::ACCEPT, "application/json")
        .header(http::header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("the answer cannot be read: {error}"))?;
    Ok((status, body.to_bytes()))
}

/// Longest answer, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_in_the_answer() {
        let json = br#"{"data":{"left":7,"text":"8","minus":-1,"half":0.5,"no":null}}"#;
        let left = |at: &str, n: u64| assert_eq!(read(json, at), Number::Left(n), "{at}");
        left("/data/left", 7);
        left("/data/text", 8);
        left("/data/minus", 0);
        for at in ["/data/half", "/data/no", "/data", "/left"] {
            assert!(matches!(read(json, at), Number::Odd(_)), "{at}");
        }
        assert!(matches!(read(b"<html>", "/left"), Number::Odd(_)));
    }
}
