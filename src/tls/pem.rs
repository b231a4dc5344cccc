//! Certificates and keys as they lie in files.

use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// All certificates of a file, at least one. An error names `setting` and the file.
pub fn certificates(setting: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(read) if read.is_empty() => Err(format!("{setting} {file} has no certificate in PEM")),
        Ok(read) => Ok(read),
        Err(error) => Err(format!("{setting} {file}: {error}")),
    }
}

/// The first private key of a file.
pub fn private_key(setting: &str, file: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| format!("{setting} {file}: {error}"))
}

/// The authorities in `file`, or those of this machine where none is named.
pub fn roots(setting: &str, file: Option<&str>) -> Result<Arc<RootCertStore>, String> {
    let Some(file) = file else { return machine(setting) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(setting, file)? {
        roots.add(certificate).map_err(|error| format!("{setting} {file}: {error}"))?;
    }
    Ok(Arc::new(roots))
}

/// The certificate authorities of this machine, read once.
fn machine(setting: &str) -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Some that cannot be read are normal; none at all is said below.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    match roots.is_empty() {
        true => Err(format!("this machine has no certificate authorities: set {setting}")),
        false => Ok(roots.clone()),
    }
}
