#!/bin/bash
# Role: makes the tools: Kubernetes, etcd, CoreDNS, Helm and kubectl from Go modules, the Kafka broker from Maven
# artefacts. usage: build.sh OUT (an empty folder). 8 minutes on two cores the first time, 20 s with warm caches.
# This file and what it reads (tools/, kafka/pom.xml) are the key of install.sh's cache.
set -euo pipefail
out=$1
here=$(dirname "$(readlink -f "$0")")

# Kubernetes 1.36 does not serve /openapi/v2 when built with Go 1.27. Another Go fetches this one by itself.
case $(go env GOVERSION) in go1.26*) ;; *) export GOTOOLCHAIN=go1.26.8 ;; esac

cp -r "$here/tools" "$out/src" # outside of any repository
cd "$out/src"
# Unstamped, the server says v0.0.0 and charts with a kubeVersion refuse it.
stamp="-X k8s.io/component-base/version"
CGO_ENABLED=0 GOBIN=$out/bin go install -trimpath -buildvcs=false \
  -ldflags "-s -w $stamp.gitVersion=v1.36.3 $stamp.gitMajor=1 $stamp.gitMinor=36" tool ./cmd/coredns ./cmd/pause
mv "$out/bin/server" "$out/bin/etcd" # etcd's main package is called server
cd "$out" && rm -rf src

MAVEN_OPTS="-XX:-UsePerfData" mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$out/kafka/lib"

# A formatted, empty data folder, copied for each cluster: formatting takes a JVM two seconds.
cat >"$out/kafka/format.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:9093
listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093
controller.listener.names=CONTROLLER
log.dirs=$out/kafka/data
END
java -XX:-UsePerfData -cp "$out/kafka/lib/*" kafka.tools.StorageTool format --standalone \
  --cluster-id MkU3OEVBNTcwNTJENDM2Qg --config "$out/kafka/format.properties"
