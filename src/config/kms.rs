//! Which key in AWS KMS, and how it is asked. Credentials are not ours: AWS's own settings hold them.

use drain_signers::KmsSettings;

use super::error::{Bad, ConfigError, quoted};
use super::keys::Key;
use super::sources::{Layers, Raw};
use super::values::{self, is_loopback};

/// Everything that can be set, checked whichever signer is chosen; and where the key was set, if it was.
pub(super) fn settings(layers: &mut Layers) -> Result<(Option<Raw>, KmsSettings), ConfigError> {
    let key = layers.get(Key::KmsKeyId)?;
    let region = layers.get(Key::KmsRegion)?;
    let address = layers.get(Key::KmsAddress)?.map(|raw| raw.parse(values::address)).transpose()?;
    let settings = KmsSettings {
        key: key.as_ref().map(|raw| raw.parse(key_name)).transpose()?.unwrap_or_default(),
        region: region.as_ref().map(|raw| raw.parse(region_name)).transpose()?,
        endpoint: layers.get(Key::KmsEndpoint)?.map(|raw| raw.parse(endpoint)).transpose()?,
        concurrency: layers.or_table(Key::KmsConcurrency, |text| values::number(text, 1, 1_000))?,
        limit: layers.or_table(Key::KmsTimeout, values::wait)?,
        address: address.as_ref().map(|(address, _)| *address),
    };
    layers.warnings.extend(address.and_then(|(_, warning)| warning));
    if let (Some(named), Some(set), Some(raw)) = (KmsSettings::region_of(&settings.key), &settings.region, region)
        && named != set
    {
        return Err(Bad::new(
            format!("it is {}, but the key's ARN names {}", quoted(set), quoted(named)),
            "Unset it: the ARN's region counts",
        )
        .at(raw.name));
    }
    Ok((key, settings))
}

/// A key's id or ARN.
fn key_name(text: &str) -> Result<String, Bad> {
    let fix = "Write the key's id or ARN; aws kms describe-key --key-id alias/NAME shows them";
    if text.starts_with("alias/") || text.contains(":alias/") {
        return Err(Bad::new("an alias can be pointed at another key, which is another wallet", fix));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '-' | '_');
    if text.is_empty() || text.len() > 256 || !text.chars().all(good) {
        return Err(Bad::new(format!("{} is not a key of AWS KMS", quoted(text)), fix));
    }
    Ok(text.to_owned())
}

fn region_name(text: &str) -> Result<String, Bad> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > 64 || !text.chars().all(good) {
        return Err(Bad::new(format!("{} is not an AWS region", quoted(text)), "Write for example eu-central-1"));
    }
    Ok(text.to_owned())
}

/// https, or http on this machine; nothing in it that would have to be hidden.
fn endpoint(text: &str) -> Result<String, Bad> {
    let url = values::url(text)?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(Bad::new("it holds more than a host, a port and a path", "Write https://HOST"));
    }
    if url.scheme() == "https" || is_loopback(&url) {
        return Ok(url.as_str().trim_end_matches('/').to_owned());
    }
    Err(Bad::new("it is not encrypted", "Write an https URL"))
}
