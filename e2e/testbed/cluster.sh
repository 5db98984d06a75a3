# Kubernetes on a node: makes certificates and settings, and starts the daemons in the order in which they need one another.
# shellcheck shell=bash

# Everyone who calls the API server with a kubeconfig of their own: file name, and subject of the certificate.
USERS=(
  admin=/O=system:masters/CN=admin
  kcm=/CN=system:kube-controller-manager
  scheduler=/CN=system:kube-scheduler
  kubelet=/O=system:nodes/CN=system:node:node1
  proxy=/CN=system:kube-proxy
  coredns=/CN=testbed-coredns
)

make_pki() {
  local user names="DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$W/pki/ca.key" -out "$W/pki/ca.crt" \
    -subj /CN=belfry-testbed -days 30 -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
  certificate apiserver /CN=kube-apiserver "subjectAltName=$names,IP:127.0.0.1,IP:$SERVICE_IP,IP:$NODE_IP"
  certificate kubelet-server /CN=node1 "subjectAltName=DNS:node1,IP:127.0.0.1,IP:$NODE_IP"
  certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate webhooks /CN=kube-apiserver-belfry
  for user in "${USERS[@]}"; do
    certificate "${user%%=*}" "${user#*=}"
    render conf/kubeconfig.yaml "${user%%=*}" >"$W/conf/${user%%=*}.kubeconfig"
  done
  openssl genrsa -out "$W/pki/sa.key" 2048 2>/dev/null
  openssl rsa -in "$W/pki/sa.key" -pubout -out "$W/pki/sa.pub" 2>/dev/null
}

# certificate NAME SUBJECT [EXTENSION]: makes a certificate for client and server, signed by the cluster's authority.
certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$W/pki/$1.key" -out "$W/pki/$1.crt" \
    -CA "$W/pki/ca.crt" -CAkey "$W/pki/ca.key" -subj "$2" -days 30 -addext basicConstraints=critical,CA:FALSE \
    -addext extendedKeyUsage=clientAuth,serverAuth ${3:+-addext "$3"} 2>/dev/null
}

make_settings() {
  local file
  for file in containerd.toml kubelet.yaml proxy.yaml audit.yaml Corefile base.yaml admission.yaml webhooks.kubeconfig; do
    render "conf/$file" >"$W/conf/$file"
  done
  render conf/cni.conflist >"$W/conf/cni/10-bridge.conflist"
  echo "search svc.cluster.local cluster.local" >"$W/conf/resolv.conf"
  cat >"$W/env" <<END
export KUBECONFIG="$W/conf/admin.kubeconfig"
export PATH="$TOOLS/bin:\$PATH"
export BELFRY_CLUSTER="$NAME"
export BELFRY_NODE_IP="$NODE_IP"
export BELFRY_HOST_IP="$HOST_IP"
export KAFKA_BOOTSTRAP="$NODE_IP:9092"
export TESTBED="$W"
export TESTBED_TOOLS="$TOOLS"
END
}

launch_etcd() {
  daemon etcd "$TOOLS/bin/etcd" --name=n --data-dir="$W/etcd" --unsafe-no-fsync \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
    --initial-cluster=n=http://127.0.0.1:2380
}

launch_apiserver() {
  daemon kube-apiserver "$TOOLS/bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
    --bind-address=0.0.0.0 --advertise-address="$NODE_IP" --secure-port=6443 --service-cluster-ip-range="$SERVICE_CIDR" \
    --tls-cert-file="$W/pki/apiserver.crt" --tls-private-key-file="$W/pki/apiserver.key" --cert-dir="$W/pki" \
    --client-ca-file="$W/pki/ca.crt" --authorization-mode=Node,RBAC --anonymous-auth=false \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$W/pki/sa.pub" \
    --service-account-signing-key-file="$W/pki/sa.key" --allow-privileged=true \
    --enable-admission-plugins=NodeRestriction --kubelet-client-certificate="$W/pki/apiserver-kubelet.crt" \
    --kubelet-client-key="$W/pki/apiserver-kubelet.key" --kubelet-certificate-authority="$W/pki/ca.crt" \
    --kubelet-preferred-address-types=InternalIP,Hostname --admission-control-config-file="$W/conf/admission.yaml" \
    --audit-policy-file="$W/conf/audit.yaml" --audit-log-path="$W/log/audit.json" \
    --audit-log-maxsize=500 --audit-log-maxbackup=1 --logging-format=json
}

apiserver_ready() { ! dead kube-apiserver && k --request-timeout=2s get --raw /readyz; }

await_apiserver() { wait_for 60 apiserver_ready || die_with_log kube-apiserver "the API server does not become ready"; }

launch_controllers() {
  # With own credentials for each controller and 500 requests a second, default service accounts appear 5 s sooner.
  daemon kube-controller-manager "$TOOLS/bin/kube-controller-manager" --kubeconfig="$W/conf/kcm.kubeconfig" \
    --leader-elect=false --bind-address=127.0.0.1 --cert-dir="$W/pki" --use-service-account-credentials=true \
    --service-account-private-key-file="$W/pki/sa.key" --root-ca-file="$W/pki/ca.crt" --allocate-node-cidrs=false \
    --cluster-cidr="$POD_CIDR" --kube-api-qps=500 --kube-api-burst=1000 --pvclaimbinder-sync-period=2s \
    --logging-format=json
  daemon kube-scheduler "$TOOLS/bin/kube-scheduler" --kubeconfig="$W/conf/scheduler.kubeconfig" \
    --authentication-kubeconfig="$W/conf/scheduler.kubeconfig" --cert-dir="$W/pki" --leader-elect=false \
    --authorization-kubeconfig="$W/conf/scheduler.kubeconfig" --bind-address=127.0.0.1 --logging-format=json
}

launch_containerd() { daemon containerd containerd --config "$W/conf/containerd.toml"; }

await_containerd() {
  wait_for 30 test -S "$W/containerd/containerd.sock" || die_with_log containerd "containerd does not start"
}

launch_kubelet() {
  daemon kubelet "$TOOLS/bin/kubelet" --config="$W/conf/kubelet.yaml" --kubeconfig="$W/conf/kubelet.kubeconfig" \
    --root-dir="$W/kubelet" --cert-dir="$W/pki" --hostname-override=node1 --node-ip="$NODE_IP"
  daemon kube-proxy "$TOOLS/bin/kube-proxy" --config="$W/conf/proxy.yaml" --hostname-override=node1
}

launch_dns() { daemon coredns "$TOOLS/bin/coredns" -conf "$W/conf/Corefile"; }

node_ready() { k get node node1 -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' | grep -q True; }

await_node() { wait_for 60 node_ready || die_with_log kubelet "the node does not become Ready"; }

dns_ready() { enter bash -c 'exec 3<>/dev/tcp/127.0.0.1/8181 && printf "GET /ready HTTP/1.0\r\n\r\n" >&3 && grep -q "200 OK" <&3'; }

await_dns() { wait_for 30 dns_ready || die_with_log coredns "CoreDNS does not answer"; }

# expose NAMESPACE SERVICE PORT[:TARGET]...: makes a Service that leads to processes on the node.
expose_command() {
  [ $# -ge 3 ] || die "usage: testbed expose NAME NAMESPACE SERVICE PORT[:TARGET]..."
  local namespace=$1 service=$2 pair ports='' targets=''
  shift 2
  for pair in "$@"; do
    ports+="{name: p${pair%:*}, port: ${pair%:*}, targetPort: ${pair#*:}}, "
    targets+="{name: p${pair%:*}, port: ${pair#*:}}, "
  done
  k create namespace "$namespace" >/dev/null 2>&1 || k get namespace "$namespace" >/dev/null
  k apply -f - >&2 <<END
apiVersion: v1
kind: Service
metadata: {name: $service, namespace: $namespace}
spec: {ports: [$ports]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: $service-node, namespace: $namespace, labels: {kubernetes.io/service-name: $service}}
addressType: IPv4
ports: [$targets]
endpoints: [{addresses: ["$NODE_IP"]}]
END
}

# The API server is killed, because on SIGTERM it waits 10 s for watches. Nothing is lost: etcd keeps what was written.
stop_apiserver() { stop_daemon kube-apiserver KILL && say "API server: stopped"; }
start_apiserver() { launch_apiserver && await_apiserver && say "API server: ready"; }
