//! What a failure means: the client-side table and the rows F01 to F05. Every row asserts what was
//! said of the request and what the server saw of it.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;

use http::Method;
use penstock::metrics::Counter;
use penstock::upstream::{Body, Stage, Timeouts, Written};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::origin::{Origin, silence};
use crate::rig::{LONG, OK, PATIENT, SHORT, failed, request, run, stage, stream, text, to, until};

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    listener.local_addr().expect("address").to_string()
}

#[test]
fn a_refused_connection_is_a_definite_failure() {
    run(|| async {
        let stage = to(nobody().await);
        let error = failed(stage.post("order").await);
        assert_eq!((error.at, error.written), (Stage::Connect, Written::Nothing));
        assert!(!error.timed_out, "{error}");
        assert_eq!(stage.sink.get(Counter::UpstreamConnectErrors), 1);
        let report = stage.shared.report();
        assert_eq!((report[0].connect_errors, report[0].in_flight, report[0].open), (1, 0, 0));
        assert!(report[0].last_error.is_some() && report[0].held);
    });
}

#[test]
fn a_silent_address_is_a_definite_failure_in_time() {
    run(|| async {
        // A listener whose queue is full takes no more connections, and says nothing.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("socket");
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind");
        socket.listen(0).expect("listen");
        let address = socket.local_addr().expect("address").as_socket().expect("inet");
        let mut taken = Vec::new();
        for _ in 0..8 {
            taken.push(tokio::spawn(tokio::net::TcpStream::connect(address)));
        }
        tokio::time::sleep(SHORT).await;
        let stage = stage(&[address.to_string()], "connect_timeout = \"80ms\"");
        let error = failed(stage.post("order").await);
        assert_eq!((error.at, error.written), (Stage::Connect, Written::Nothing));
        assert!(error.timed_out, "{error}");
        taken.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

#[test]
fn a_name_that_does_not_resolve_is_tried_again() {
    run(|| async {
        let stage = to("no-such-name.invalid:80");
        for _ in 0..2 {
            let error = failed(stage.post("order").await);
            assert_eq!((error.at, error.written), (Stage::Connect, Written::Nothing), "{error}");
        }
        assert_eq!(stage.sink.get(Counter::UpstreamConnectErrors), 2);
    });
}

#[test]
fn a_name_resolves_to_all_of_its_addresses() {
    run(|| async {
        // `localhost` may be ::1 first, where nobody listens.
        let origin = Origin::constant(OK).await;
        let stage = to(format!("localhost:{}", origin.address.port()));
        for _ in 0..3 {
            assert_eq!(stage.get_text().await, "ok");
        }
    });
}

#[test]
fn a_group_without_servers_or_with_nonsense_says_so() {
    run(|| async {
        for servers in [&[][..], &["nonsense".to_owned()]] {
            let error = failed(stage(servers, "").get().await);
            assert_eq!((error.at, error.written), (Stage::Connect, Written::Nothing), "{error}");
        }
    });
}

/// The server reads the request whole and then closes or resets.
fn dies_after_reading(method: Method, resets: bool) {
    run(|| async move {
        let origin = Origin::new(move |mut server| async move {
            server.request().await;
            if resets {
                server.reset();
            }
        })
        .await;
        let stage = to(origin.address);
        let body = if method == Method::GET { Body::Empty } else { Body::Full("order".into()) };
        let error = failed(stage.group.send(request(method.clone(), body), PATIENT).await);
        assert_eq!((error.at, error.written), (Stage::FirstByte, Written::Maybe), "{error}");
        // A fresh connection that dies is no sign of a race: not even a GET is sent again.
        assert_eq!((origin.requests(), stage.sink.get(Counter::UpstreamRetries)), (1, 0));
    });
}

#[test]
fn a_close_after_reading_is_unknown_and_not_repeated() {
    dies_after_reading(Method::POST, false);
    dies_after_reading(Method::GET, false);
}

#[test]
fn a_reset_after_reading_is_unknown_and_not_repeated() {
    dies_after_reading(Method::POST, true);
    dies_after_reading(Method::GET, true);
}

/// The first connection answers once, then reads a request and closes; later ones answer.
async fn dies_when_reused(resets: bool) -> Origin {
    Origin::new(move |mut server| async move {
        server.request().await;
        server.send(OK).await;
        if server.number > 0 {
            while server.request().await.is_some() {
                server.send(OK).await;
            }
            return;
        }
        server.request().await;
        if resets {
            server.reset();
        }
    })
    .await
}

#[test]
fn a_post_on_a_reused_connection_that_dies_is_unknown_and_not_repeated() {
    for resets in [false, true] {
        run(|| async move {
            let origin = dies_when_reused(resets).await;
            let stage = to(origin.address);
            assert_eq!(stage.get_text().await, "ok");
            let error = failed(stage.post("order").await);
            assert_eq!((error.at, error.written), (Stage::FirstByte, Written::Maybe), "{error}");
            assert_eq!((origin.requests(), origin.accepted.get()), (2, 1));
            // The next one is well again.
            assert!(stage.post("order").await.is_ok());
        });
    }
}

#[test]
fn a_get_on_a_reused_connection_that_dies_is_repeated_once() {
    for resets in [false, true] {
        run(|| async move {
            let origin = dies_when_reused(resets).await;
            let stage = to(origin.address);
            assert_eq!(stage.get_text().await, "ok");
            assert_eq!(stage.get_text().await, "ok");
            assert_eq!((origin.requests(), origin.accepted.get()), (3, 2));
            assert_eq!(stage.sink.get(Counter::UpstreamRetries), 1);
        });
    }
}

#[test]
fn a_get_with_a_body_is_not_repeated() {
    run(|| async {
        let origin = dies_when_reused(false).await;
        let stage = to(origin.address);
        assert_eq!(stage.get_text().await, "ok");
        let body = Body::Full("question".into());
        let error = failed(stage.group.send(request(Method::GET, body), PATIENT).await);
        assert_eq!((error.at, error.written), (Stage::FirstByte, Written::Maybe));
        assert_eq!(origin.requests(), 2);
    });
}

#[test]
fn a_get_whose_answer_had_begun_is_not_repeated() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.request().await;
            server.send(OK).await;
            server.request().await;
            server.send("HTTP/1.1 2").await;
        })
        .await;
        let stage = to(origin.address);
        assert_eq!(stage.get_text().await, "ok");
        let error = failed(stage.get().await);
        assert_eq!(error.written, Written::Maybe, "{error}");
        assert_eq!(origin.requests(), 2);
    });
}

/// F03: the pooled connection was closed, reset or spoilt while it was idle.
#[test]
fn a_connection_that_died_while_idle_costs_a_post_nothing() {
    for what in ["close", "reset", "junk"] {
        run(|| async move {
            let done = Rc::new(Cell::new(false));
            let has_died = done.clone();
            let origin = Origin::new(move |mut server| {
                let done = done.clone();
                async move {
                    server.request().await;
                    server.send(OK).await;
                    if server.number > 0 {
                        return silence().await;
                    }
                    match what {
                        "close" => drop(server),
                        "reset" => server.reset(),
                        _ => {
                            server.send("junk").await;
                            done.set(true);
                            return server.gone().await;
                        }
                    }
                    done.set(true);
                }
            })
            .await;
            let stage = to(origin.address);
            assert_eq!(stage.get_text().await, "ok");
            until(|| has_died.get()).await;
            let answer = stage.post("order").await.expect("an answer");
            assert_eq!(text(answer.body).await, "ok", "{what}");
            assert_eq!((origin.requests(), origin.accepted.get()), (2, 2), "{what}");
        });
    }
}

/// The same in one turn of the runtime: the death is in the kernel and nowhere else.
#[test]
fn a_death_that_only_the_kernel_knows_costs_a_post_nothing() {
    run(|| async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let (say_close, close) = std::sync::mpsc::channel::<()>();
        let (say_closed, closed) = std::sync::mpsc::channel::<usize>();
        let server = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut buffer = [0; 4096];
            let (mut first, _) = listener.accept().expect("accept");
            let _ = first.read(&mut buffer).expect("a request");
            first.write_all(OK.as_bytes()).expect("sent");
            close.recv().expect("told");
            drop(first);
            say_closed.send(1).expect("heard");
            let (mut second, _) = listener.accept().expect("accept");
            let read = second.read(&mut buffer).expect("a request");
            second.write_all(OK.as_bytes()).expect("sent");
            assert!(buffer[..read].starts_with(b"POST"));
        });
        let stage = to(address);
        assert_eq!(stage.get_text().await, "ok");
        say_close.send(()).expect("heard");
        // Blocks the runtime on purpose: it hears nothing between the close and the request.
        closed.recv().expect("closed");
        let answer = stage.post("order").await.expect("an answer");
        assert_eq!(text(answer.body).await, "ok");
        server.join().expect("the server");
    });
}

#[test]
fn no_answer_in_time_is_unknown() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.request().await;
            server.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA:").await;
            server.gone().await;
        })
        .await;
        let stage = to(origin.address);
        for first_byte in [SHORT, LONG] {
            let until = (first_byte == LONG).then(|| Instant::now() + SHORT);
            let timeouts = Timeouts { first_byte, until, ..PATIENT };
            let sent = stage.group.send(request(Method::POST, Body::Full("o".into())), timeouts);
            let error = failed(sent.await);
            assert_eq!((error.at, error.written), (Stage::FirstByte, Written::Maybe), "{error}");
            assert!(error.timed_out);
        }
        assert_eq!(origin.requests(), 2);
        assert_eq!(stage.shared.report()[0].open, 0);
    });
}

#[test]
fn a_total_timeout_before_anything_was_sent_is_a_definite_failure() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.request().await;
            silence().await;
        })
        .await;
        let stage = stage(&[origin.address.to_string()], "connections_max = 1");
        let busy = stage.get();
        tokio::pin!(busy);
        tokio::select! {
            _ = &mut busy => panic!("no answer was sent"),
            () = until(|| origin.requests() == 1) => {}
        }
        let timeouts =
            Timeouts { first_byte: LONG, idle: LONG, until: Some(Instant::now() + SHORT) };
        let sent = stage.group.send(request(Method::POST, Body::Full("o".into())), timeouts);
        tokio::select! {
            _ = &mut busy => panic!("no answer was sent"),
            result = sent => {
                let error = failed(result);
                assert_eq!((error.at, error.written), (Stage::Queue, Written::Nothing));
                assert!(error.timed_out);
            }
        }
    });
}

#[test]
fn a_process_that_was_stopped_before_the_write_writes_nothing() {
    run(|| async {
        let origin = Origin::constant(OK).await;
        let stage = to(origin.address);
        // Now there is an idle connection: the next request is with hyper after one poll.
        assert_eq!(stage.get_text().await, "ok");
        let timeouts = Timeouts { until: Some(Instant::now() + SHORT), ..PATIENT };
        let sent = stage.group.send(request(Method::POST, Body::Full("o".into())), timeouts);
        tokio::pin!(sent);
        let mut was_stopped = false;
        let result = poll_fn(|cx| {
            let polled = sent.as_mut().poll(cx);
            if !std::mem::replace(&mut was_stopped, true) {
                // As SIGSTOP would: no timer of this thread fires before the connection's task runs.
                std::thread::sleep(SHORT * 2);
            }
            polled
        });
        let error = failed(result.await);
        assert_eq!((error.written, error.timed_out), (Written::Nothing, true), "{error}");
        assert_eq!(origin.requests(), 1);
        assert_eq!(stage.sink.get(Counter::UpstreamRequests), 1);
    });
}

#[test]
fn a_client_that_breaks_off_is_its_own_failure() {
    run(|| async {
        let origin = Origin::new(|mut server| async move { server.gone().await }).await;
        let stage = to(origin.address);
        let (frames, body) = stream(Some(10));
        let sent = stage.group.send(request(Method::POST, body), PATIENT);
        let (result, ()) = tokio::join!(sent, async {
            frames.send(Ok("half ".into())).await.expect("taken");
            let cut = penstock::http::body::BodyError::Cut;
            frames.send(Err(cut)).await.expect("taken");
        });
        let error = failed(result);
        assert_eq!((error.at, error.written), (Stage::Body, Written::Maybe), "{error}");
        assert_eq!(stage.shared.report()[0].last_error, None);
    });
}

#[test]
fn a_server_that_takes_nothing_is_given_up() {
    run(|| async {
        let origin = Origin::new(|server| async move {
            silence().await;
            drop(server);
        })
        .await;
        let stage = to(origin.address);
        let timeouts = Timeouts { idle: SHORT, ..PATIENT };
        let (frames, body) = stream(None);
        let feeding = async move {
            while frames.send(Ok(bytes::Bytes::from(vec![0; 1 << 16]))).await.is_ok() {}
        };
        let sent = stage.group.send(request(Method::POST, body), timeouts);
        let (result, ()) = tokio::join!(sent, feeding);
        let error = failed(result);
        assert_eq!((error.at, error.written), (Stage::Send, Written::Maybe), "{error}");
        assert!(error.timed_out);
    });
}

#[test]
fn a_slow_client_is_not_the_servers_fault() {
    run(|| async {
        let origin = Origin::constant(OK).await;
        let stage = to(origin.address);
        let timeouts = Timeouts { idle: SHORT, first_byte: LONG, until: None };
        let (frames, body) = stream(None);
        let sent = stage.group.send(request(Method::POST, body), timeouts);
        let (result, ()) = tokio::join!(sent, async {
            tokio::time::sleep(SHORT * 4).await;
            frames.send(Ok("late".into())).await.expect("taken");
            drop(frames);
        });
        assert_eq!(text(result.expect("an answer").body).await, "ok");
    });
}

#[test]
fn a_caller_that_leaves_closes_the_connection() {
    run(|| async {
        let gone = Rc::new(Cell::new(false));
        let seen = gone.clone();
        let origin = Origin::new(move |mut server| {
            let gone = gone.clone();
            async move {
                server.request().await;
                server.gone().await;
                gone.set(true);
            }
        })
        .await;
        let stage = to(origin.address);
        tokio::select! {
            _ = stage.post("order") => panic!("no answer was sent"),
            () = until(|| origin.requests() == 1) => {}
        }
        until(|| seen.get()).await;
        let report = stage.shared.report();
        assert_eq!((report[0].open, report[0].in_flight), (0, 0));
    });
}
