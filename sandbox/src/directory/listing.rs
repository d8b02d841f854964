//! Listings, and the forms in which readers of the live directory have met them (protocol.md section 10.1).

use serde_json::{Map, Value, json};

use crate::paid::Paid;
use crate::provider::{Kind, Model, Provider};

/// One entry of the catalogue. Fields are public: tests change them while the directory runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// Opaque id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Base URL that prompts go to.
    pub api_url: String,
    /// The wallet, as text so that it can be wrong.
    pub wallet: String,
    /// Chain.
    pub chain_id: u64,
    /// Free text.
    pub category: String,
    /// "drain" or "mpp".
    pub protocol: String,
    /// "community" or "bittensor".
    pub tier: String,
    /// Marketplace score, 0 to 1.
    pub score: f64,
    /// Quality, 0 to 1 (or to 100: readers disagree).
    pub quality: f64,
    /// Seconds.
    pub min_duration: Option<u64>,
    /// Seconds.
    pub max_duration: Option<u64>,
    /// Health.
    pub online: bool,
    /// Health.
    pub latency_ms: u64,
    /// Models with the prices that the directory believes.
    pub models: Vec<Model>,
    /// For MPP listings.
    pub mpp_endpoint: Option<String>,
    /// For MPP listings: "llm" or "rest".
    pub mpp_type: Option<String>,
    /// Names of JSON fields that are left out.
    pub omit: Vec<String>,
    /// JSON fields that are added or replaced.
    pub extra: Map<String, Value>,
}

impl Listing {
    /// The true listing of a running provider.
    pub fn of(id: impl Into<String>, provider: &Provider) -> Self {
        let config = provider.config();
        let work = match config.kind {
            Kind::Llm => "answers text with text",
            Kind::Forecast => "forecasts the weather of a city (invented)",
            Kind::Image => "draws a small picture from a prompt",
            Kind::PerItem => "counts words, priced per item",
        };
        Self {
            id: id.into(),
            name: config.name.clone(),
            description: format!("Sandbox provider: {work}. Play money only."),
            api_url: provider.url(),
            wallet: provider.address().to_string(),
            chain_id: config.chain_id,
            category: config.kind.category().into(),
            protocol: "drain".into(),
            tier: "community".into(),
            score: 0.42,
            quality: 0.93,
            min_duration: Some(300),
            max_duration: Some(2_592_000),
            online: true,
            latency_ms: 180,
            models: config.models.clone(),
            mpp_endpoint: None,
            mpp_type: None,
            omit: Vec::new(),
            extra: Map::new(),
        }
    }

    /// The chat of a server that is paid over MPP, which DRAIN channels cannot pay.
    pub fn mpp(id: impl Into<String>, paid: &Paid) -> Self {
        Self {
            id: id.into(),
            name: "Sim-MPP".into(),
            description: "Sandbox server paid over MPP: answers text with text. Play money only.".into(),
            api_url: format!("{}/mpp", paid.url()),
            wallet: paid.payee().to_string(),
            chain_id: paid.chain_id(),
            category: "llm".into(),
            protocol: "mpp".into(),
            tier: "community".into(),
            score: 0.2,
            quality: 0.5,
            min_duration: None,
            max_duration: None,
            online: true,
            latency_ms: 90,
            models: vec![Model::new("sim-mpp", 300, 1_200)],
            mpp_endpoint: Some(format!("{}/mpp/v1/chat/completions", paid.url())),
            mpp_type: Some("llm".into()),
            omit: Vec::new(),
            extra: Map::new(),
        }
    }

    /// The echo of the same server: any JSON to one address.
    pub fn mpp_rest(id: impl Into<String>, paid: &Paid) -> Self {
        Self {
            name: "Sim-MPP-Echo".into(),
            description: "Sandbox server paid over MPP: answers with what it was sent. Play money only.".into(),
            category: "data".into(),
            models: Vec::new(),
            mpp_endpoint: Some(format!("{}/mpp/echo", paid.url())),
            mpp_type: Some("rest".into()),
            ..Self::mpp(id, paid)
        }
    }

    /// `/api/mcp/providers`.
    pub(crate) fn entry(&self, form: Form, compact: bool) -> Value {
        let models: Vec<_> = self.models.iter().map(|model| model_entry(model, form)).collect();
        let mut entry = json!({
            "id": self.id, "name": self.name, "apiUrl": self.api_url, "providerAddress": self.wallet,
            "category": self.category, "models": models,
        });
        if !compact {
            let now = now_ms();
            let more = json!({
                "description": self.description, "chainId": self.chain_id, "protocol": self.protocol,
                "tier": self.tier, "score": self.score, "qualityScore": self.quality, "docsUrl": null,
                "mppEndpoint": self.mpp_endpoint, "mppType": self.mpp_type,
                "minDuration": self.min_duration, "maxDuration": self.max_duration,
            });
            let health = match form {
                Form::Status => {
                    json!({"status": {"online": self.online, "lastChecked": now, "latencyMs": self.latency_ms}})
                }
                Form::Flat => {
                    json!({"isOnline": self.online, "lastCheckedAt": now, "avgResponseTime": self.latency_ms})
                }
            };
            merge(&mut entry, more);
            merge(&mut entry, health);
        }
        self.finish(entry)
    }

    /// `/api/directory/providers?format=json`.
    pub(crate) fn directory_entry(&self) -> Value {
        let models: Vec<_> = self
            .models
            .iter()
            .map(|model| {
                json!({"modelId": model.id, "name": model.id, "inputCostPer1k": price(model.input),
                    "outputCostPer1k": price(model.output)})
            })
            .collect();
        self.finish(json!({
            "id": self.id, "name": self.name, "apiUrl": self.api_url, "providerAddress": self.wallet,
            "description": self.description, "logoUrl": null, "website": null, "isOnline": self.online,
            "inferenceOnline": self.online, "lastCheckedAt": now_ms(), "avgResponseTime": self.latency_ms,
            "models": models, "chainId": self.chain_id,
        }))
    }

    fn finish(&self, mut entry: Value) -> Value {
        merge(&mut entry, Value::Object(self.extra.clone()));
        if let Some(fields) = entry.as_object_mut() {
            fields.retain(|name, _| !self.omit.iter().any(|omitted| omitted == name));
        }
        entry
    }
}

/// How health and models are spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `status` object, model `id`.
    #[default]
    Status,
    /// `isOnline` and `avgResponseTime`, `modelId`.
    Flat,
}

fn model_entry(model: &Model, form: Form) -> Value {
    let id = if form == Form::Flat { "modelId" } else { "id" };
    json!({
        id: model.id, "name": model.id,
        "pricing": {"inputPer1kTokens": price(model.input), "outputPer1kTokens": price(model.output),
            "currency": "USDC", "decimals": 6},
    })
}

fn price(units: u64) -> String {
    crate::provider::decimal(units)
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

pub(crate) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
