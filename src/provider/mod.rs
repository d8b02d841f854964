//! HTTP to providers.

#[cfg(test)]
pub(crate) mod testing;
