//! Headless Chromium, spoken to over pipes by its DevTools protocol: one page, real clicks, and every
//! complaint of the page kept.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use super::client::{PATIENCE, until};

/// A browser with one page; killed when dropped.
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    next: u64,
    /// Exceptions, errors of the console, broken policies.
    pub complaints: Vec<String>,
    /// Every URL that was asked for.
    pub requests: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub fn start() -> Browser {
        let profile = tempfile::tempdir().expect("a directory");
        // The protocol's pipes are descriptors 3 and 4: a shell can make them of 0 and 1.
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg("exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null")
            .arg(program());
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display()));
        command.arg("about:blank");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a shell");
        let (send, messages) = channel();
        let answers = BufReader::new(child.stdout.take().expect("stdout"));
        std::thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("a message is JSON");
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        let commands = child.stdin.take().expect("stdin");
        let mut browser = Browser {
            child,
            commands,
            messages,
            session: None,
            next: 0,
            complaints: Vec::new(),
            requests: Vec::new(),
            _profile: profile,
        };
        browser.attach();
        browser
    }

    fn attach(&mut self) {
        let target = self.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", target);
        self.session = Some(attached["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
    }

    /// Goes to a page and waits until it is loaded.
    pub fn open(&mut self, url: &str) {
        let told = self.call("Page.navigate", json!({"url": url}));
        assert_eq!(told["errorText"], Value::Null, "{url}");
        self.wait(
            "the page is loaded",
            "document.readyState === 'complete' && location.href !== 'about:blank'",
        );
    }

    /// What an expression is; a promise is awaited.
    pub fn eval(&mut self, script: &str) -> Value {
        let told = self.call(
            "Runtime.evaluate",
            json!({"expression": script, "awaitPromise": true, "returnByValue": true}),
        );
        assert_eq!(told["exceptionDetails"], Value::Null, "{script}");
        told["result"]["value"].clone()
    }

    pub fn text(&mut self, selector: &str) -> String {
        let script = format!("document.querySelector({selector:?})?.innerText ?? ''");
        self.eval(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, what: &str, script: &str) {
        until(what, || self.eval(&format!("Boolean({script})")) == true);
    }

    /// Waits until an element shows a text.
    pub fn wait_text(&mut self, selector: &str, text: &str) {
        let script = format!("document.querySelector({selector:?})?.innerText.includes({text:?})");
        self.wait(&format!("{selector} shows {text}"), &script);
    }

    /// A click of the mouse in the middle of an element.
    pub fn click(&mut self, selector: &str) {
        let script = format!(
            "(() => {{ const at = document.querySelector({selector:?}); at.scrollIntoView({{block: 'center'}}); \
             const box = at.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        );
        let at = self.eval(&script);
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// The size of the window, and what the user likes better: `dark` or `light`.
    pub fn show_as(&mut self, width: u32, height: u32, scheme: &str) {
        let mobile = width < 600;
        let size =
            json!({"width": width, "height": height, "mobile": mobile, "deviceScaleFactor": 1});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let liked = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", liked);
    }

    /// How far the page is wider than its window.
    pub fn overflow(&mut self) -> i64 {
        let script = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.eval(script).as_i64().expect("a number")
    }

    /// Keeps a picture in the directory that `PENSTOCK_SCREENSHOTS` names, if it does.
    pub fn picture(&mut self, name: &str) {
        let Some(dir) = std::env::var_os("PENSTOCK_SCREENSHOTS") else { return };
        use base64::Engine;
        let told = self.call("Page.captureScreenshot", json!({"captureBeyondViewport": true}));
        let data = told["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        std::fs::write(PathBuf::from(dir).join(format!("{name}.png")), bytes).expect("written");
    }

    /// Nothing went wrong in the page, and it asked nobody but `origin`.
    pub fn assert_quiet(&mut self, origin: &str) {
        self.eval("0");
        assert!(self.complaints.is_empty(), "{:?}", self.complaints);
        let foreign = |url: &&String| !url.starts_with(origin) && !url.contains("data:");
        assert_eq!(self.requests.iter().find(foreign), None);
    }

    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).expect("the browser lives");
        loop {
            let message = self.messages.recv_timeout(PATIENCE);
            let message = message.unwrap_or_else(|cause| panic!("{method}: {cause}"));
            if message["id"] == id {
                assert_eq!(message["error"], Value::Null, "{method}");
                return message["result"].clone();
            }
            self.heard(&message);
        }
    }

    fn heard(&mut self, message: &Value) {
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params.to_string()),
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.complaints.push(params.to_string());
            }
            Some("Network.requestWillBeSent") => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                // Credentials that were typed into the address are of no interest.
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
                self.requests.push(format!("{scheme}://{rest}"));
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = PROGRAMS
        .iter()
        .find_map(|name| dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file()));
    found.unwrap_or_else(|| panic!("no Chromium: apt-get install chromium-headless-shell"))
}

const PROGRAMS: [&str; 4] =
    ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

const FLAGS: [&str; 12] = [
    "--headless",
    "--remote-debugging-pipe",
    // As root, and in containers, there is no sandbox to be had.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
    "--mute-audio",
    "--lang=en-US",
];
