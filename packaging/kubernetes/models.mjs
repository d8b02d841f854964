// Holds the Prometheus operator's resources against the schemas of its custom resource definitions.
import { readFileSync } from "node:fs";
import { PrometheusRule, ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const kinds = { PrometheusRule, ServiceMonitor };
for (const doc of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  new kinds[doc.kind](doc).validate();
  console.log(`${doc.kind} ${doc.metadata.name} is valid`);
}
