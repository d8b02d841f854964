#!/usr/bin/env python3
"""Writes the dashboards of grafana/ from the tables below. `--check` says whether they are what is checked in."""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What each dashboard filters by: this job, and the instances that were chosen.
HERE_ = 'job="drain-mcp",instance=~"$instance"'
TITLES = {
    "fleet": "drain-mcp: fleet",
    "money": "drain-mcp: money",
    "instance": "drain-mcp: one instance",
    "signers": "drain-mcp: signers",
    "providers": "drain-mcp: providers",
}
USDC = "currencyUSD"


def m(name, labels=""):
    """A metric of the chosen instances."""
    return f"drain_{name}{{{HERE_}{',' + labels if labels else ''}}}"


def rate(name, labels="", by=None):
    inner = f"rate({m(name, labels)}[$__rate_interval])"
    return f"sum by ({by}) ({inner})" if by is not None else inner


def quantile(q, name, by, labels=""):
    return f"histogram_quantile({q}, sum by (le{', ' + by if by else ''}) (rate({m(name + '_bucket', labels)}[$__rate_interval])))"


def summed(name, by, labels=""):
    return f"sum by ({by}) ({m(name, labels)})"


# (title, kind, unit, description, [(query, legend)])
STAT, LINE, TABLE, STATES = "stat", "timeseries", "table", "state-timeline"
# Or a heading alone, over what follows.
ROW = "row"

FLEET = [
    ("Instances up", STAT, "none", "Instances that were scraped just now. Alert: DrainInstanceDown.",
     [('sum(up{job="drain-mcp",instance=~"$instance"})', "up")]),
    ("Spent in 24 hours", STAT, USDC, "What requests were booked at, by all agents.",
     [(f"sum(increase({m('spend_usdc_total')}[24h]))", "spent")]),
    ("Locked in channels", STAT, USDC, "Deposits of channels that are not over.", [(f"sum({m('channel_deposit_usdc')})", "locked")]),
    ("Outside of channels", STAT, USDC, "USDC that the wallets hold.", [(f"sum({m('wallet_usdc')})", "held")]),
    ("Waiting for a person", STAT, "none", "Questions that nobody has answered. Alert: DrainApprovalWaiting.",
     [(f"sum({m('approvals_pending')})", "questions")]),
    ("Firing alerts", STAT, "none", "Alerts of drain-mcp that fire now; what to do is in the runbook.",
     [('count(ALERTS{alertname=~"Drain.*",alertstate="firing"}) or vector(0)', "firing")]),
    ("Spend by agent", LINE, USDC, "USDC an hour, by agent.", [(f"sum by (agent) (rate({m('spend_usdc_total')}[$__rate_interval])) * 3600", "{{agent}}")]),
    ("Spend by provider", LINE, USDC, "USDC an hour, by provider.",
     [(f"sum by (provider) (rate({m('spend_usdc_total')}[$__rate_interval])) * 3600", "{{provider}}")]),
    ("Limits used", LINE, "percentunit", "What counts against each limit, as a part of it. Alerts: DrainCapNearlyUsed above 80 %, DrainCapReached.",
     [(f"{m('cap_used_usdc')} / ({m('cap_limit_usdc')} > 0)", "{{scope}} {{name}} {{wallet}}")]),
    ("Limits reserved", LINE, USDC, "The part of each limit whose outcome is not known yet: requests in flight, openings under way.",
     [(f"sum by (scope, name) ({m('cap_reserved_usdc')})", "{{scope}} {{name}}")]),
    ("Channels by state", LINE, "none", "Recorded channels. expired: past its end, with money inside.", [(summed("channels", "state"), "{{state}}")]),
    ("Decisions", LINE, "ops", "What was decided on vouchers, payments without a channel, openings and transactions, by the rule that decided.",
     [(rate("policy_decisions_total", by="decision, rule"), "{{decision}} {{rule}}")]),
    ("Tool calls", LINE, "ops", "Calls of agents by tool and outcome.", [(rate("mcp_requests_total", by="tool, outcome"), "{{tool}} {{outcome}}")]),
    ("Tool calls, 99th percentile", LINE, "s", "How long calls take, a person's press included.",
     [(quantile(0.99, "mcp_request_duration_seconds", "tool"), "{{tool}}")]),
    ("Clients", LINE, "none", "Connected clients by transport.", [(summed("mcp_sessions", "instance, transport"), "{{instance}} {{transport}}")]),
    ("Builds", TABLE, "none", "Which drain-mcp runs where.", [(m("build_info"), "")]),
    ("Replicas", ROW, "none", "", []),
    ("Who has which wallet", STATES, "bool_yes_no",
     "One at a time. For a moment two: one that is cut off does not know yet that it lost the wallet, and signs nothing. Alert: DrainWalletUnheld.",
     [(summed("wallet_held", "wallet, instance"), "{{wallet}} {{instance}}")]),
    ("Hand-overs", LINE, "none", "In 10 minutes: wallets that a replica got, and those that were taken from one that stood still or was cut off. Alerts: DrainWalletMoves, DrainWalletLost.",
     [(f"sum by (wallet, instance) (increase({m('wallet_taken_total')}[10m]))", "{{wallet}} to {{instance}}"),
      (f"sum by (wallet, instance) (increase({m('wallet_lost_total')}[10m]))", "{{wallet}} lost by {{instance}}")]),
    ("Requests passed on", LINE, "ops", "To the replica that has the wallet, by what became of them. not_begun is tried again. Alert on unknown: DrainForwardUnknown.",
     [(rate("requests_forwarded_total", by="outcome"), "{{outcome}}")]),
    ("The journal's server reached anew", LINE, "none", "In 10 minutes. Alert where it goes on: DrainJournalReconnects.",
     [(f"sum by (instance) (increase({m('journal_reconnects_total')}[10m]))", "{{instance}}")]),
    ("Journal commits, median", LINE, "s", "How long a commit takes; on a server, the way there and back too.",
     [(quantile(0.5, "journal_commit_duration_seconds", "instance"), "{{instance}}")]),
    ("Journal commits, 99th percentile", LINE, "s", "How long a commit takes; on a server, the way there and back too. Near the lease (DRAIN_JOURNAL_LEASE) wallets are lost.",
     [(quantile(0.99, "journal_commit_duration_seconds", "instance"), "{{instance}}")]),
]

MONEY = [
    ("Deposits", LINE, USDC, "In channels that are not over, by provider.", [(summed("channel_deposit_usdc", "provider"), "{{provider}}")]),
    ("Signed", LINE, USDC, "The most that vouchers let each provider claim.", [(summed("channel_signed_usdc", "provider"), "{{provider}}")]),
    ("Charged", LINE, USDC, "What requests cost by our books.", [(summed("channel_charged_usdc", "provider"), "{{provider}}")]),
    ("Claimed", LINE, USDC, "What providers have taken on chain. Alert above signed: DrainClaimedAboveSigned.",
     [(summed("channel_claimed_usdc", "provider"), "{{provider}}")]),
    ("Overhang", LINE, USDC, "Signed less charged: what a provider could take without having worked for it.",
     [(summed("channel_overhang_usdc", "provider"), "{{provider}}")]),
    ("Overhang of deposits", LINE, "percentunit", "Alert above 10 % for 30 minutes: DrainOverhangHigh.",
     [(f"sum by (wallet) ({m('channel_overhang_usdc')}) / (sum by (wallet) ({m('channel_deposit_usdc')}) > 0)", "{{wallet}}")]),
    ("Reclaimable", LINE, USDC, "What expired channels hold beyond what was signed: it can be brought back now. Alerts: DrainReclaimable, DrainReclaimableLong.",
     [(summed("reclaimable_usdc", "wallet"), "{{wallet}}")]),
    ("Until the next channel expires", LINE, "s", "Below zero it has expired.",
     [(f"{m('channel_next_expiry_timestamp_seconds')} - time()", "{{wallet}}")]),
    ("Wallets", LINE, USDC, "USDC outside of channels.", [(summed("wallet_usdc", "wallet"), "{{wallet}}")]),
    ("Gas money", LINE, "suffix: POL", "POL of each wallet, and what closing all of its channels is taken to cost. Alerts: DrainGasLow, DrainGasOut.",
     [(summed("wallet_pol", "wallet"), "{{wallet}}"), (f"wallet:drain_close_all_cost_pol:assumed{{{HERE_}}}", "to close all: {{wallet}}")]),
    ("Allowance", LINE, USDC, "What each contract may take from a wallet.", [(summed("allowance_usdc", "wallet, contract"), "{{wallet}} {{contract}}")]),
    ("Transactions", LINE, "ops", "Sent, and how they ended.", [(rate("transactions_total", by="kind, outcome"), "{{kind}} {{outcome}}")]),
    ("Payments without a channel", ROW, "none", "", []),
    ("Payments", LINE, "ops", "MPP and x402, by protocol and by what the server told. failed: it took the money and gave no answer; lost: nobody knows yet. Alert on both: DrainPaymentsUnanswered.",
     [(rate("payments_total", by="protocol, outcome"), "{{protocol}} {{outcome}}")]),
    ("What the chain told of them", LINE, "none", "In 10 minutes. never_taken: its time is over, and the limits have it again. Alert where it is often so: DrainPaymentsNeverTaken.",
     [(f"sum by (outcome) (increase({m('payments_resolved_total')}[10m]))", "{{outcome}}")]),
    ("Whole answer, median", LINE, "s", "From sending a payment until the whole answer is there; zero where nothing was ever paid so.",
     [(f"{quantile(0.5, 'payment_duration_seconds', 'protocol')} or sum by (protocol) ({m('payments_total')}) * 0", "{{protocol}}")]),
    ("Whole answer, 99th percentile", LINE, "s", "From sending a payment until the whole answer is there; zero where nothing was ever paid so.",
     [(f"{quantile(0.99, 'payment_duration_seconds', 'protocol')} or sum by (protocol) ({m('payments_total')}) * 0", "{{protocol}}")]),
]

INSTANCE = [
    ("Work that waits", LINE, "none", "Asked of actors of a kind and not answered yet; of the journal, operations that wait.",
     [(m("actor_mailbox_depth"), "{{actor}}")]),
    ("Since the last progress", LINE, "s", "Long is bad only where work waits.", [(f"time() - {m('actor_last_progress_timestamp_seconds')}", "{{actor}}")]),
    ("Actors started anew", LINE, "none", "In 10 minutes. Alert above 3: DrainActorRestarts.",
     [(f"sum by (actor, cause) (increase({m('actor_restarts_total')}[10m]))", "{{actor}} {{cause}}")]),
    ("Journal commits", LINE, "s", "How long a commit takes, its sync to the disk included.",
     [(quantile(0.5, "journal_commit_duration_seconds", ""), "median"), (quantile(0.99, "journal_commit_duration_seconds", ""), "99th percentile")]),
    ("Journal errors", LINE, "none", "In 10 minutes. Any is bad: signing has stopped. Alert: DrainJournalError.",
     [(f"increase({m('journal_errors_total')}[10m])", "errors")]),
    ("RPC requests", LINE, "ops", "By endpoint and outcome. Alerts: DrainRpcAllFailing, DrainRpcFewHealthy.",
     [(rate("rpc_requests_total", by="endpoint, outcome"), "{{endpoint}} {{outcome}}")]),
    ("RPC, 99th percentile", LINE, "s", "How long endpoints take to answer.", [(quantile(0.99, "rpc_request_duration_seconds", "endpoint"), "{{endpoint}}")]),
    ("Blocks", LINE, "none", "The newest block of each endpoint, and the newest that counts as final.",
     [(m("rpc_head_block"), "{{endpoint}}"), (m("chain_confirmed_block"), "final")]),
    ("The chain is seen late by", LINE, "s", "Only while there is something to watch. Alerts: DrainWatcherBehind, DrainWatcherFarBehind.",
     [(f"time() - {m('watcher_last_block_timestamp_seconds')}", "{{wallet}}")]),
    ("Watching", LINE, "bool_yes_no", "Whether a wallet has something to watch on chain.", [(m("watcher_active"), "{{wallet}}")]),
    ("Reorganisations", LINE, "none", "Those in an hour that took back what was final. Alert: DrainReorgDeep.",
     [(f"increase({m('reorgs_total')}[1h])", "reorganisations"), (f"increase({m('reorg_depth_blocks_sum')}[1h])", "blocks taken back")]),
    ("Oldest transaction on its way", LINE, "s", "Alerts: DrainTransactionPending, DrainTransactionStuck.",
     [(m("transaction_oldest_pending_seconds"), "{{wallet}}")]),
    ("Contract owners", LINE, "none", "What owners of the contracts did in an hour. Alert: DrainContractAdminEvent.",
     [(f"increase({m('contract_admin_events_total')}[1h])", "{{event}}")]),
]

SIGNERS = [
    ("Keys", TABLE, "none", "Which key signs for which wallet, and whether a person does something for it.", [(m("signer_info"), "")]),
    ("Available", LINE, "bool_yes_no", "Whether the key could be used when it was last needed. Alerts: DrainSignerUnavailable, DrainDeviceUnavailable.",
     [(m("signer_available"), "{{wallet}} {{backend}}")]),
    ("Signatures", LINE, "ops", "Made, by what was signed.", [(rate("sign_duration_seconds_count", by="backend, kind"), "{{backend}} {{kind}}")]),
    ("Signing time, median", LINE, "s", "From asking until the signature is there.", [(quantile(0.5, "sign_duration_seconds", "backend, kind"), "{{backend}} {{kind}}")]),
    ("Signing time, 99th percentile", LINE, "s", "Alert for AWS KMS above 1 s: DrainKmsSlow.", [(quantile(0.99, "sign_duration_seconds", "backend, kind"), "{{backend}} {{kind}}")]),
    ("Errors", LINE, "ops", "Signatures that were not made, by why. Zero where there was none. Alert: DrainKmsThrottled.",
     [(f"{rate('signer_errors_total', by='backend, kind')} or sum by (backend) ({m('signer_info')}) * 0", "{{backend}} {{kind}}")]),
    ("Vouchers", LINE, "ops", "Authorized vouchers, by what became of the request.", [(rate("vouchers_signed_total", by="outcome"), "{{outcome}}")]),
    ("Vouchers refused", LINE, "none", "By providers, in 10 minutes. invalid_nonce is bad: DrainVoucherNotMonotone.",
     [(f"sum by (reason) (increase({m('voucher_refusals_total')}[10m]))", "{{reason}}")]),
    ("Corrections", LINE, "none", "Times in 10 minutes that a provider told other books than ours.",
     [(f"sum by (outcome) (increase({m('voucher_corrections_total')}[10m]))", "{{outcome}}")]),
    ("A person's answer, 90th percentile", LINE, "s", "Time from a question to its answer over a day; zero where none was asked.",
     [(f"histogram_quantile(0.9, sum by (le, via, outcome) (rate({m('approval_wait_seconds_bucket')}[24h]))) or sum({m('approvals_pending')}) * 0", "{{via}} {{outcome}}")]),
]

PROVIDERS = [
    ("Requests", LINE, "ops", "Paid requests, by provider and outcome.", [(rate("provider_requests_total", by="provider, outcome"), "{{provider}} {{outcome}}")]),
    ("Errors", LINE, "percentunit", "What was not answered, as a part of what was sent. Alert above 20 % for 10 minutes: DrainProviderErrors.",
     [(f"1 - (sum by (provider) (rate({m('provider_requests_total', 'outcome=' + chr(34) + 'answered' + chr(34))}[$__rate_interval]))"
       f" / sum by (provider) (rate({m('provider_requests_total')}[$__rate_interval])))", "{{provider}}")]),
    ("Whole answer, median", LINE, "s", "From sending until the whole answer is there.", [(quantile(0.5, "provider_request_duration_seconds", "provider"), "{{provider}}")]),
    ("Whole answer, 99th percentile", LINE, "s", "From sending until the whole answer is there.", [(quantile(0.99, "provider_request_duration_seconds", "provider"), "{{provider}}")]),
    ("First byte, 99th percentile", LINE, "s", "From sending until the head of the answer is there.", [(quantile(0.99, "provider_first_byte_seconds", "provider"), "{{provider}}")]),
    ("Cost of the bound, median", LINE, "percentunit", "What a request was booked at, as a part of what it was allowed to cost. Near 1 for all: its prices leave no room, or it charges all it can.",
     [(quantile(0.5, "provider_cost_to_bound_ratio", "provider"), "{{provider}}")]),
    ("Spend", LINE, USDC, "USDC an hour.", [(f"sum by (provider) (rate({m('spend_usdc_total')}[$__rate_interval])) * 3600", "{{provider}}")]),
    ("Vouchers", LINE, "ops", "By what became of the request.", [(rate("vouchers_signed_total", by="provider, outcome"), "{{provider}} {{outcome}}")]),
    ("Overhang", LINE, USDC, "What it could take without having worked for it.", [(summed("channel_overhang_usdc", "provider"), "{{provider}}")]),
]

DASHBOARDS = {"fleet": FLEET, "money": MONEY, "instance": INSTANCE, "signers": SIGNERS, "providers": PROVIDERS}


def panel(number, row, place):
    title, kind, unit, description, queries = row
    if kind == ROW:
        return {"id": number, "type": kind, "title": title, "collapsed": False, "gridPos": place, "panels": [], "targets": []}
    targets = [
        {"refId": chr(65 + n), "datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto",
         **({"instant": True, "range": False, "format": "table"} if kind == TABLE else {"instant": kind == STAT, "range": kind != STAT})}
        for n, (expr, legend) in enumerate(queries)
    ]
    made = {
        "id": number,
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "options": {},
        "targets": targets,
    }
    if kind == LINE:
        made["fieldConfig"]["defaults"]["custom"] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "spanNulls": False}
        made["options"] = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, "tooltip": {"mode": "multi", "sort": "desc"}}
    if kind == STATES:
        made["fieldConfig"]["defaults"]["custom"] = {"lineWidth": 0, "fillOpacity": 70}
        made["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}
        made["fieldConfig"]["defaults"]["thresholds"] = {"mode": "absolute", "steps": [{"color": "transparent", "value": None}, {"color": "green", "value": 1}]}
        made["options"] = {"mergeValues": True, "showValue": "never", "rowHeight": 0.8, "legend": {"showLegend": False}, "tooltip": {"mode": "single"}}
    if kind == STAT:
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value", "graphMode": "none"}
    return made


def places(rows):
    """Small ones six in a row, others two in a row, headings alone."""
    x = y = height = 0
    for _, kind, *_ in rows:
        wide, high = {STAT: (4, 4), ROW: (24, 1)}.get(kind, (12, 8))
        if x + wide > 24 or (height and high != height):
            x, y = 0, y + height
        yield {"x": x, "y": y, "w": wide, "h": high}
        x, height = x + wide, high


def dashboard(name):
    rows = DASHBOARDS[name]
    others = [
        {"type": "link", "title": title, "url": f"/d/drain-{other}", "icon": "dashboard", "keepTime": True, "includeVars": True,
         "targetBlank": False, "asDropdown": False, "tags": [], "tooltip": ""}
        for other, title in TITLES.items() if other != name
    ]
    one = name == "instance"
    return {
        "uid": f"drain-{name}",
        "title": TITLES[name],
        "tags": ["drain-mcp"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": others,
        "annotations": {"list": [{
            "name": "Alerts", "enable": True, "iconColor": "red", "datasource": SOURCE,
            "expr": 'ALERTS{alertname=~"Drain.*",alertstate="firing"}', "titleFormat": "{{alertname}}", "step": "60s"}]},
        "templating": {"list": [
            {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}, "hide": 0},
            {"name": "instance", "label": "Instance", "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1,
             "query": {"query": 'label_values(up{job="drain-mcp"}, instance)', "refId": "instance"},
             "multi": not one, "includeAll": not one, "allValue": ".*", "current": {}, "hide": 0},
        ]},
        "panels": [panel(n, row, place) for n, (row, place) in enumerate(zip(rows, places(rows)), 1)],
    }


def main():
    stale = []
    for name in DASHBOARDS:
        path = HERE / "grafana" / f"drain-{name}.json"
        text = json.dumps(dashboard(name), indent=2) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not what generate.py writes: {', '.join(stale)}")


main()
