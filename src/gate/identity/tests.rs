use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::{rsa, signature};
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::http::Limits;
use crate::http::reader::read_head;

const NOW: UnixMs = UnixMs(1_796_126_400_000);
const NOW_S: u64 = 1_796_126_400;

/// A directory with keys, and activities that name them.
struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Keys {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::write(dir.path().join("jwt.key"), "jwt secret\n").expect("written");
        std::fs::write(dir.path().join("sid.key"), "sid secret").expect("written");
        Keys { dir }
    }

    fn activity(&self, toml: &str) -> Result<Identity, String> {
        let toml = toml.replace("DIR", &self.dir.path().display().to_string());
        Identity::new(&toml::from_str(&toml).expect("settings"))
    }

    fn jwt(&self, more: &str) -> Identity {
        let jwt = format!("jwt = {{ alg = 'HS256', key_file = 'DIR/jwt.key'{more} }}");
        self.activity(&format!("user = ['jwt:header:authorization']\n{jwt}")).expect("valid")
    }
}

fn who(identity: &Identity, fields: &str) -> Option<String> {
    who_at(identity, fields, ClientAddr::Ip("192.0.2.7".parse().expect("address")))
}

fn who_at(identity: &Identity, fields: &str, client: ClientAddr) -> Option<String> {
    let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let mut storage = Vec::new();
    let request = read_head(bytes.as_bytes(), &Limits::default(), &mut storage);
    let head = request.expect("valid").expect("complete").head;
    let identity = identity.of(&head, client, NOW)?;
    Some(String::from_utf8_lossy(&identity).into_owned())
}

fn token(alg: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(alg), claims, key).expect("encoded")
}

fn hs256(claims: &Value) -> String {
    token(Algorithm::HS256, &EncodingKey::from_secret(b"jwt secret"), claims)
}

fn bearer(identity: &Identity, token: &str) -> Option<String> {
    who(identity, &format!("Authorization: Bearer {token}\r\n"))
}

#[test]
fn a_token_is_valid_within_its_times() {
    let identity = Keys::new().jwt("");
    for (claims, expected) in [
        (json!({"sub":"u1"}), Some("u1")),
        (json!({"sub":17}), Some("17")),
        (json!({"sub":"u1","exp":NOW_S + 1}), Some("u1")),
        (json!({"sub":"u1","exp":NOW_S - 4}), Some("u1")),
        (json!({"sub":"u1","exp":NOW_S - 5}), None),
        (json!({"sub":"u1","exp":0}), None),
        (json!({"sub":"u1","exp":"never"}), None),
        (json!({"sub":"u1","exp":1e300}), Some("u1")),
        (json!({"sub":"u1","nbf":NOW_S + 5}), Some("u1")),
        (json!({"sub":"u1","nbf":NOW_S + 6}), None),
        (json!({"sub":""}), None),
        (json!({"sub":1.5}), None),
        (json!({"sub":null}), None),
        (json!({"uid":"u1"}), None),
        (json!({"sub":"x".repeat(256)}), Some(&*"x".repeat(256))),
        (json!({"sub":"x".repeat(257)}), None),
    ] {
        assert_eq!(bearer(&identity, &hs256(&claims)).as_deref(), expected, "{claims}");
    }
}

#[test]
fn a_token_cannot_choose_how_it_is_verified() {
    let identity = Keys::new().jwt("");
    let good = hs256(&json!({"sub":"u1"}));
    let (_, rest) = good.split_once('.').expect("dot");
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let (payload, _) = rest.split_once('.').expect("dot");
    for bad in [
        format!("{none}.{payload}."),
        format!("{none}.{rest}"),
        format!("{good}x"),
        good.replace('.', ".."),
        token(Algorithm::HS256, &EncodingKey::from_secret(b"other"), &json!({"sub":"u1"})),
        token(Algorithm::HS512, &EncodingKey::from_secret(b"jwt secret"), &json!({"sub":"u1"})),
        "x".to_owned(),
    ] {
        assert_eq!(bearer(&identity, &bad), None, "{bad}");
    }
    let mut critical = Header::new(Algorithm::HS256);
    critical.crit = Some(vec!["exp".to_owned()]);
    let key = EncodingKey::from_secret(b"jwt secret");
    let critical = jsonwebtoken::encode(&critical, &json!({"sub":"u1"}), &key).expect("encoded");
    assert_eq!(bearer(&identity, &critical), None);
    assert_eq!(bearer(&identity, &good).as_deref(), Some("u1"));
    assert_eq!(who(&identity, &format!("Authorization: {good}\r\n")).as_deref(), Some("u1"));
    assert_eq!(
        who(&identity, &format!("Authorization: bearer   {good}\r\n")).as_deref(),
        Some("u1")
    );
    assert_eq!(who(&identity, &format!("Authorization: Basic {good}\r\n")), None);
}

#[test]
fn issuer_and_audience_are_required_where_they_are_set() {
    let identity = Keys::new().jwt(", claim = 'uid', issuer = 'shop', audience = 'web'");
    for (claims, expected) in [
        (json!({"uid":"u1","iss":"shop","aud":"web"}), Some("u1")),
        (json!({"uid":"u1","iss":"shop","aud":["app","web"]}), Some("u1")),
        (json!({"uid":"u1","iss":"shop"}), None),
        (json!({"uid":"u1","aud":"web"}), None),
        (json!({"uid":"u1","iss":"evil","aud":"web"}), None),
        (json!({"uid":"u1","iss":"shop","aud":"app"}), None),
    ] {
        assert_eq!(bearer(&identity, &hs256(&claims)).as_deref(), expected, "{claims}");
    }
    let lenient = Keys::new().jwt("");
    let other = hs256(&json!({"sub":"u1","iss":"any","aud":"any"}));
    assert_eq!(bearer(&lenient, &other).as_deref(), Some("u1"));
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[test]
fn public_keys_verify_and_a_remembered_token_still_expires() {
    let keys = Keys::new();
    let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("key");
    let rsa_private: Pkcs8V1Der<'_> = rsa.as_der().expect("der");
    let rsa_public: PublicKeyX509Der<'_> =
        signature::KeyPair::public_key(&rsa).as_der().expect("der");
    let ec = signature::EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
    let ec = ec.expect("key");
    let ec_private = ec.to_pkcs8v1().expect("der");
    let ec_public: PublicKeyX509Der<'_> =
        signature::KeyPair::public_key(&ec).as_der().expect("der");
    let ed = signature::Ed25519KeyPair::generate().expect("key");
    let ed_private = ed.to_pkcs8v1().expect("der");
    let ed_public: PublicKeyX509Der<'_> =
        signature::KeyPair::public_key(&ed).as_der().expect("der");
    let private = |der: &[u8]| pem("PRIVATE KEY", der).into_bytes();
    let rsa_key = EncodingKey::from_rsa_pem(&private(rsa_private.as_ref())).expect("key");
    let ec_key = EncodingKey::from_ec_pem(&private(ec_private.as_ref())).expect("key");
    let ed_key = EncodingKey::from_ed_pem(&private(ed_private.as_ref())).expect("key");
    for (alg, algorithm, key, public) in [
        ("RS256", Algorithm::RS256, rsa_key, rsa_public.as_ref()),
        ("ES256", Algorithm::ES256, ec_key, ec_public.as_ref()),
        ("EdDSA", Algorithm::EdDSA, ed_key, ed_public.as_ref()),
    ] {
        let public = pem("PUBLIC KEY", public);
        std::fs::write(keys.dir.path().join("public.pem"), &public).expect("written");
        let identity = keys
            .activity(&format!(
                "user = ['jwt:cookie:token']\njwt = {{ alg = '{alg}', key_file = 'DIR/public.pem', leeway = '0' }}"
            ))
            .expect("valid");
        let sign = |claims: Value| format!("Cookie: token={}\r\n", token(algorithm, &key, &claims));
        let good = sign(json!({"sub":"u1","exp":NOW_S + 1}));
        assert_eq!(who(&identity, &good).as_deref(), Some("u1"), "{alg}");
        assert_eq!(who(&identity, &good).as_deref(), Some("u1"), "{alg} again");
        assert_eq!(who(&identity, &good.replace("=ey", "=eX")), None, "{alg}");
        let old = sign(json!({"sub":"u1","exp":NOW_S}));
        assert_eq!((who(&identity, &old), who(&identity, &old)), (None, None), "{alg}");
        // The public key as a secret: the classic confusion.
        let secret = EncodingKey::from_secret(public.as_bytes());
        let confused = token(Algorithm::HS256, &secret, &json!({"sub":"u1"}));
        assert_eq!(who(&identity, &format!("Cookie: token={confused}\r\n")), None, "{alg}");
    }
}

#[test]
fn a_signed_value_is_verified() {
    let identity = Keys::new()
        .activity("user = ['hmac:cookie:sid']\nhmac = { key_file = 'DIR/sid.key' }")
        .expect("valid");
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"sid secret");
    let sign = |id: &str| URL_SAFE_NO_PAD.encode(hmac::sign(&key, id.as_bytes()).as_ref());
    let cookie = |value: &str| who(&identity, &format!("Cookie: a=b; sid={value}; c=d\r\n"));
    assert_eq!(cookie(&format!("u1.{}", sign("u1"))).as_deref(), Some("u1"));
    assert_eq!(cookie(&format!("u.1.{}", sign("u.1"))).as_deref(), Some("u.1"));
    assert_eq!(cookie(&format!("u1.{}=", sign("u1"))).as_deref(), Some("u1"));
    assert_eq!(cookie(&format!("u2.{}", sign("u1"))), None);
    assert_eq!(cookie(&format!(".{}", sign(""))), None);
    assert_eq!(cookie(&format!("u1.{}", &sign("u1")[..20])), None);
    assert_eq!(cookie("u1"), None);
    assert_eq!(cookie("u1."), None);
}

#[test]
fn the_first_source_that_is_present_decides() {
    let identity = Keys::new()
        .activity(
            "user = ['jwt:header:authorization', 'hmac:header:X-Sid', 'cookie:uid', 'header:X-Uid']\n\
             jwt = { alg = 'HS256', key_file = 'DIR/jwt.key' }\nhmac = { key_file = 'DIR/sid.key' }",
        )
        .expect("valid");
    let good = hs256(&json!({"sub":"u1"}));
    for (fields, expected) in [
        (format!("Authorization: Bearer {good}\r\nCookie: uid=u2\r\n"), Some("u1")),
        ("Authorization: Bearer nonsense\r\nCookie: uid=u2\r\n".to_owned(), None),
        ("Authorization: Bearer \r\nCookie: uid=u2\r\n".to_owned(), Some("u2")),
        ("Authorization: \r\nCookie: uid=u2\r\n".to_owned(), Some("u2")),
        ("X-Sid: forged.AAAA\r\nCookie: uid=u2\r\n".to_owned(), None),
        ("Cookie: uid=u2\r\nX-Uid: u3\r\n".to_owned(), Some("u2")),
        ("Cookie: uid=\r\nX-Uid: u3\r\n".to_owned(), Some("u3")),
        ("Cookie: uid=u2; uid=u2\r\n".to_owned(), Some("u2")),
        ("Cookie: uid=u2; uid=u4\r\nX-Uid: u3\r\n".to_owned(), None),
        ("Cookie: uid=u2\r\nCookie: uid=u4\r\n".to_owned(), None),
        ("X-Uid: u3\r\nX-Uid: u5\r\n".to_owned(), None),
        (format!("Authorization: Bearer {good}\r\nAuthorization: Bearer x\r\n"), None),
        (format!("X-Uid: {}\r\n", "u".repeat(257)), None),
        (String::new(), None),
    ] {
        assert_eq!(who(&identity, &fields).as_deref(), expected, "{fields}");
    }
}

#[test]
fn an_address_is_an_identity_only_where_it_is_listed() {
    let identity = Keys::new().activity("user = ['cookie:uid', 'address']").expect("valid");
    assert_eq!(who(&identity, "Cookie: uid=u1\r\n").as_deref(), Some("u1"));
    assert_eq!(who(&identity, "").as_deref(), Some("address\x00192.0.2.7"));
    assert_eq!(who_at(&identity, "", ClientAddr::Unix), None);
}

#[test]
fn a_mistake_names_its_setting() {
    let keys = Keys::new();
    std::fs::write(keys.dir.path().join("empty.key"), "\n").expect("written");
    for (toml, named) in [
        ("", "user: who buys must be said"),
        ("user = ['uid']", "user: `uid`: "),
        ("user = ['cookie:']", "user: `cookie:`"),
        ("user = ['header:a b']", "user: `header:a b`"),
        ("user = ['jwt:header:a']", "user: `jwt:header:a`: `jwt` with its"),
        ("user = ['hmac:cookie:a']", "user: `hmac:cookie:a`: `hmac` with its"),
        ("user = ['cookie:a']\nhmac = { key_file = 'DIR/none' }", "hmac.key_file: "),
        ("user = ['cookie:a']\nhmac = { key_file = 'DIR/empty.key' }", "is empty"),
        (
            "user = ['cookie:a']\njwt = { alg = 'RS256', key_file = 'DIR/jwt.key' }",
            "jwt.key_file: ",
        ),
    ] {
        let error = keys.activity(toml).expect_err("invalid");
        assert!(error.contains(named), "{error}");
    }
}
