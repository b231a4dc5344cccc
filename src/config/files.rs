//! Files that the settings name: found beside the config, and there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path as FilePath, PathBuf};

use super::check::Findings;
use super::problem::Path;
use super::schema::{JwtAlg, Settings};
use super::units::Time;
use crate::clock::Clock;

/// Makes the names of key files and pages relative to the config's own directory, so that the config
/// means the same wherever the command is started. What systemd passed to the service under that name
/// (`LoadCredential=`) comes first.
pub fn resolve(settings: &mut Settings, dir: &FilePath) {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    for file in named_mut(settings) {
        if FilePath::new(&**file).is_relative() {
            let passed = credentials.as_ref().map(|passed| passed.join(&**file));
            let found = passed.filter(|passed| passed.exists());
            *file = found.unwrap_or_else(|| dir.join(&**file)).to_string_lossy().into_owned();
        }
    }
}

/// Checks that the files can be used, and what can only be said with a clock.
pub fn check(settings: &Settings, found: &mut Findings) {
    for (path, file, kind) in named(settings) {
        key_file(path, file, kind, found);
    }
    if let Some(dir) = &settings.answers.html_dir
        && !FilePath::new(dir).is_dir()
    {
        found.error(Path::of(&["answers", "html_dir"]), format!("{dir} is no directory"));
    }
    past(settings, found);
}

/// What a key file holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Secret,
    PublicKey,
    Certificates,
    PrivateKey,
}

/// A sale of the past is never opened by itself: the ledger creates it paused, or not at all.
fn past(settings: &Settings, found: &mut Findings) {
    let now = Time { at: Clock::system().now().wall };
    for (name, sale) in &settings.sale {
        let path = |field| Path::of(&["sale", name.as_str(), field]);
        match sale.ends_at {
            Some(end) if end <= now => found.warn(
                path("ends_at"),
                "is past: a ledger that does not know this sale will not create it",
                "remove the sale, or give it new times and a new name",
            ),
            _ if sale.opens_at <= now => found.warn(
                path("opens_at"),
                "is past: a ledger that does not know this sale creates it paused",
                format!("then open it with: penstock sale resume {name}"),
            ),
            _ => {}
        }
    }
}

fn key_file(path: Path, file: &str, kind: Kind, found: &mut Findings) {
    let bytes = match fs::metadata(file) {
        Ok(meta) if meta.is_dir() => return found.error(path, format!("{file} is a directory")),
        Ok(meta) if meta.len() > kind.bytes_max() => {
            return found.error(path, format!("{file} is too large for what it should hold"));
        }
        Ok(meta) => {
            if matches!(kind, Kind::Secret | Kind::PrivateKey)
                && meta.permissions().mode() & 0o004 != 0
            {
                let help = format!("chmod 640 {file}");
                found.warn(path.clone(), format!("everyone on this machine can read {file}"), help);
            }
            fs::read(file)
        }
        Err(error) => Err(error),
    };
    match bytes {
        Err(error) => found.error(path, format!("cannot read {file}: {error}")),
        Ok(bytes) if bytes.trim_ascii().is_empty() => found.error(path, format!("{file} is empty")),
        Ok(bytes) => match kind {
            Kind::PublicKey if !bytes.trim_ascii_start().starts_with(b"-----BEGIN ") => found
                .error_help(
                    path,
                    format!("{file} has no public key in PEM"),
                    "it begins with -----BEGIN PUBLIC KEY-----",
                ),
            Kind::Certificates if !has(&bytes, "-----BEGIN CERTIFICATE-----") => {
                found.error_help(
                    path,
                    format!("{file} has no certificate in PEM"),
                    "it has -----BEGIN CERTIFICATE-----",
                );
            }
            Kind::PrivateKey if !has(&bytes, "PRIVATE KEY-----") => found.error_help(
                path,
                format!("{file} has no private key in PEM"),
                "it has -----BEGIN PRIVATE KEY-----",
            ),
            Kind::Secret if bytes.trim_ascii().len() < SECRET_BYTES_MIN => found.warn(
                path,
                format!("the secret in {file} is short"),
                format!("make one: head -c 32 /dev/urandom | base64 > {file}"),
            ),
            _ => {}
        },
    }
}

/// Every key file with its setting.
fn named(settings: &Settings) -> Vec<(Path, &str, Kind)> {
    let mut files = Vec::new();
    for (name, site) in &settings.site {
        let path = Path::of(&["site", name.as_str(), "activity"]);
        let Some(activity) = &site.activity else { continue };
        if let Some(jwt) = &activity.jwt {
            let kind = if jwt.alg == JwtAlg::HS256 { Kind::Secret } else { Kind::PublicKey };
            files.push((path.join("jwt").join("key_file"), &*jwt.key_file, kind));
        }
        if let Some(hmac) = &activity.hmac {
            files.push((path.join("hmac").join("key_file"), &*hmac.key_file, Kind::Secret));
        }
    }
    for (path, file) in [
        (["gate", "pass_key_file"], &settings.gate.pass_key_file),
        (["admin", "token_file"], &settings.admin.token_file),
        (["cache", "purge_token_file"], &settings.cache.purge_token_file),
        (["store", "password_file"], &settings.store.password_file),
        (["store", "sentinel_password_file"], &settings.store.sentinel_password_file),
    ] {
        if let Some(file) = file {
            files.push((Path::of(&path), file, Kind::Secret));
        }
    }
    tls_files(settings, &mut files);
    let tls = &settings.store.tls;
    for (name, file, kind) in [
        ("ca_file", &tls.ca_file, Kind::Certificates),
        ("cert_file", &tls.cert_file, Kind::Certificates),
        ("key_file", &tls.key_file, Kind::PrivateKey),
    ] {
        if let Some(file) = file {
            files.push((Path::of(&["store", "tls", name]), file, kind));
        }
    }
    files
}

/// The files of listeners and of upstreams.
fn tls_files<'s>(settings: &'s Settings, files: &mut Vec<(Path, &'s str, Kind)>) {
    for (name, listen) in &settings.listen {
        let Some(tls) = &listen.tls else { continue };
        let path = Path::of(&["listen", name.as_str(), "tls"]);
        files.push((path.join("cert"), &tls.cert, Kind::Certificates));
        files.push((path.join("key"), &tls.key, Kind::PrivateKey));
        for (at, pair) in tls.more.iter().enumerate() {
            let path = path.join("more").item(at);
            files.push((path.join("cert"), &pair.cert, Kind::Certificates));
            files.push((path.join("key"), &pair.key, Kind::PrivateKey));
        }
        if let Some(file) = &tls.ticket_keys {
            files.push((path.join("ticket_keys"), file, Kind::Secret));
        }
        if let Some(file) = &tls.client_ca {
            files.push((path.join("client_ca"), file, Kind::Certificates));
        }
    }
    for (name, upstream) in &settings.upstream {
        let Some(tls) = &upstream.tls else { continue };
        let path = Path::of(&["upstream", name.as_str(), "tls"]);
        for (name, file, kind) in [
            ("ca_file", &tls.ca_file, Kind::Certificates),
            ("cert_file", &tls.cert_file, Kind::Certificates),
            ("key_file", &tls.key_file, Kind::PrivateKey),
        ] {
            if let Some(file) = file {
                files.push((path.join(name), file, kind));
            }
        }
    }
}

/// Every file and directory that is read, to be resolved.
fn named_mut(settings: &mut Settings) -> Vec<&mut String> {
    let mut files: Vec<&mut String> = Vec::new();
    for activity in settings.site.values_mut().filter_map(|site| site.activity.as_mut()) {
        files.extend(activity.jwt.as_mut().map(|jwt| &mut jwt.key_file));
        files.extend(activity.hmac.as_mut().map(|hmac| &mut hmac.key_file));
    }
    files.extend(settings.gate.pass_key_file.as_mut());
    files.extend(settings.admin.token_file.as_mut());
    files.extend(settings.cache.purge_token_file.as_mut());
    files.extend(settings.store.password_file.as_mut());
    files.extend(settings.store.sentinel_password_file.as_mut());
    for tls in settings.listen.values_mut().filter_map(|listen| listen.tls.as_mut()) {
        files.extend([&mut tls.cert, &mut tls.key]);
        files.extend(tls.more.iter_mut().flat_map(|pair| [&mut pair.cert, &mut pair.key]));
        files.extend([&mut tls.ticket_keys, &mut tls.client_ca].into_iter().flatten());
    }
    for tls in settings.upstream.values_mut().filter_map(|group| group.tls.as_mut()) {
        let named = [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file];
        files.extend(named.into_iter().flatten());
    }
    let tls = &mut settings.store.tls;
    files.extend([&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file].into_iter().flatten());
    files.extend(settings.answers.html_dir.as_mut());
    files
}

impl Kind {
    /// The largest file: a key is short, all authorities of the world are not.
    fn bytes_max(self) -> u64 {
        if self == Kind::Certificates { 1 << 20 } else { 64 << 10 }
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A shorter secret can be guessed; Redis passwords are often shorter than 32.
const SECRET_BYTES_MIN: usize = 16;
