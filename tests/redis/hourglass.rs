//! A proxy before Redis that makes scripts see the time of a test: it rewrites the clock of every
//! script that goes by as text, and those that go by their hash are unknown to the server. What runs
//! is the product's own client and, but for one function, its own scripts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use penstock::config::schema;

/// The key that holds the time, in milliseconds.
pub const NOW: &str = "hourglass";

const CLOCK: &str = "local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)";

/// Begins to listen, and returns `settings` with the proxy's address. It ends with the test.
pub fn before(settings: &schema::Store) -> schema::Store {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let url = settings.url.clone().expect("a URL");
    let server = url.trim_start_matches("redis://").to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(redis) = TcpStream::connect(&server) else { continue };
            let (from, to) = (client.try_clone(), redis.try_clone());
            std::thread::spawn(move || {
                rewrite(client, redis);
            });
            if let (Ok(mut client), Ok(mut redis)) = (from, to) {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut redis, &mut client);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        }
    });
    schema::Store { url: Some(format!("redis://127.0.0.1:{port}")), ..settings.clone() }
}

fn rewrite(client: TcpStream, mut redis: TcpStream) -> Option<()> {
    let mut client = BufReader::new(client);
    while let Some(mut words) = command(&mut client) {
        if words[0].eq_ignore_ascii_case(b"EVAL") {
            let text = String::from_utf8(words[1].clone()).ok()?;
            // The probe has no clock of its own.
            let now = format!("return tonumber(redis.call('GET', '{NOW}'))");
            words[1] = text.replace(CLOCK, &now).into_bytes();
            assert!(text.contains("local function probe") || words[1] != text.as_bytes());
        }
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            out.extend(format!("${}\r\n", word.len()).into_bytes());
            out.extend(word);
            out.extend(b"\r\n");
        }
        redis.write_all(&out).ok()?;
    }
    redis.shutdown(Shutdown::Both).ok()
}

/// One command of a client: an array of texts.
fn command(client: &mut BufReader<TcpStream>) -> Option<Vec<Vec<u8>>> {
    let count = length(client, b'*')?;
    (0..count)
        .map(|_| {
            let mut word = vec![0; length(client, b'$')? + 2];
            client.read_exact(&mut word).ok()?;
            word.truncate(word.len() - 2);
            Some(word)
        })
        .collect()
}

fn length(client: &mut BufReader<TcpStream>, sign: u8) -> Option<usize> {
    let mut line = Vec::new();
    client.read_until(b'\n', &mut line).ok()?;
    let number = line.strip_prefix(&[sign])?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}
