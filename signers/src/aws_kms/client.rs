//! How AWS is reached: its ordinary credential chain, our one TLS provider, no tries of its own.

use alloy_signer_aws::aws_sdk_kms::Client;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::{KmsProblem, KmsSettings};

/// A client for the key's region. May ask the instance's metadata service for the region; asks KMS nothing.
///
/// Retries are ours ([`super::patience`]): they end with the request's time limit and tell what they met.
pub(super) async fn connect(settings: &KmsSettings) -> Result<Client, KmsProblem> {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::rustls(CryptoMode::Ring)).build_https();
    let mut loader =
        aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http).retry_config(RetryConfig::disabled());
    let region = settings.region.as_deref().or_else(|| KmsSettings::region_of(&settings.key));
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        return Err(KmsProblem::NoRegion);
    }
    // Of KMS alone: credentials may come from STS, whose endpoint is another one.
    let mut config = alloy_signer_aws::aws_sdk_kms::config::Builder::from(&shared);
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(config.build()))
}
