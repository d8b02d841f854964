//! What the service's errors mean.

use std::error::Error;

use alloy_signer_aws::AwsSignerError;
use alloy_signer_aws::aws_sdk_kms::config::http::HttpResponse;
use alloy_signer_aws::aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_credential_types::provider::error::CredentialsError;

use super::{KmsProblem, KmsSettings};

/// One question to the service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// The permission that it needs.
    pub(super) action: &'static str,
    /// Who is asked.
    pub(super) settings: &'a KmsSettings,
}

/// What came instead of an answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The service or the way to it.
    Problem(KmsProblem),
    /// An answer that is not what was asked for.
    Nonsense(String),
}

impl Question<'_> {
    pub(super) fn judge(self, error: &AwsSignerError) -> Trouble {
        Trouble::Problem(match error {
            AwsSignerError::Sign(error) => self.problem(error),
            AwsSignerError::GetPublicKey(error) => self.problem(error),
            // A public key that is no point of this curve.
            AwsSignerError::K256(_) | AwsSignerError::Spki(_) if self.action == super::backend::GET_PUBLIC_KEY => {
                KmsProblem::WrongKeyType { key: self.key() }
            }
            // Of our own libraries: these texts hold nothing of the request.
            other => return Trouble::Nonsense(other.to_string()),
        })
    }

    fn problem<E: ProvideErrorMetadata + Error + 'static>(self, error: &SdkError<E, HttpResponse>) -> KmsProblem {
        let waited = self.settings.limit;
        if let Some(problem) = credentials(error) {
            return problem;
        }
        let (code, status) = match error {
            SdkError::TimeoutError(_) => return KmsProblem::TimedOut { waited },
            SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
                return KmsProblem::Unreachable { place: self.place(), cause: cause(error) };
            }
            // A connection that ended within the answer.
            SdkError::ResponseError(broken) if broken.raw().status().is_success() => {
                return KmsProblem::Unreachable { place: self.place(), cause: cause(error) };
            }
            _ => (error.code(), error.raw_response().map_or(0, |response| response.status().as_u16())),
        };
        let shown = code.map_or_else(|| format!("HTTP {status}"), clean);
        match code.unwrap_or_default() {
            "DisabledException" => KmsProblem::KeyDisabled { key: self.key() },
            "KMSInvalidStateException" => match error.message() {
                Some(text) if text.to_ascii_lowercase().contains("pending deletion") => {
                    KmsProblem::KeyPendingDeletion { key: self.key() }
                }
                _ => KmsProblem::KeyUnusable { key: self.key() },
            },
            "NotFoundException" => KmsProblem::NoSuchKey { key: self.key(), place: self.place() },
            "AccessDeniedException" => KmsProblem::Denied { action: self.action, key: self.key() },
            "InvalidKeyUsageException" | "UnsupportedOperationException" => {
                KmsProblem::WrongKeyType { key: self.key() }
            }
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "InvalidClientTokenId"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "ExpiredTokenException" => KmsProblem::BadCredentials { code: shown },
            "ThrottlingException"
            | "Throttling"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "LimitExceededException" => KmsProblem::Throttled { waited },
            "KMSInternalException" | "DependencyTimeoutException" | "KeyUnavailableException" => {
                KmsProblem::Failing { waited, code: shown }
            }
            _ if status == 429 => KmsProblem::Throttled { waited },
            _ if status >= 500 => KmsProblem::Failing { waited, code: shown },
            _ => KmsProblem::Refused { action: self.action, code: shown },
        }
    }

    fn key(self) -> String {
        self.settings.key.clone()
    }

    /// Who was asked, for people.
    fn place(self) -> String {
        let region = self.settings.region.as_deref().or_else(|| KmsSettings::region_of(&self.settings.key));
        match (&self.settings.endpoint, region) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(region)) => format!("region {region}"),
            (None, None) => "region of the AWS settings".into(),
        }
    }
}

/// Whether the way ended before the service: at the credentials. Their own texts are not shown: a program that gives
/// credentials may print them.
fn credentials(error: &(dyn Error + 'static)) -> Option<KmsProblem> {
    let found = chain(error).find_map(|error| error.downcast_ref::<CredentialsError>())?;
    let problem = match found {
        CredentialsError::CredentialsNotLoaded(_) => "none of AWS's places has any",
        CredentialsError::ProviderTimedOut(_) => "the place that should give them did not answer",
        CredentialsError::InvalidConfiguration(_) => "the AWS configuration is not valid",
        _ => "the place that should give them failed",
    };
    Some(KmsProblem::NoCredentials { problem })
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The innermost cause: the outer ones say "dispatch failure".
fn cause(error: &(dyn Error + 'static)) -> String {
    let innermost = chain(error).last().map(ToString::to_string).unwrap_or_default();
    innermost.chars().filter(|c| !c.is_control()).take(160).collect()
}

/// An error code from outside: letters, digits and a little more; short.
fn clean(code: &str) -> String {
    code.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')).take(64).collect()
}
