package access

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/proa-dev/proa/apis/api"
)

// nodeRules is what a node may do where the node authorizer does not look closer.
func nodeRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		on("create", "authentication.k8s.io", "tokenreviews"),
		on("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
		on(read, "core", "services"),
		on("create "+read, "core", "nodes"),
		on("patch update", "core", "nodes/status"),
		on("patch update", "core", "nodes"),
		events(),
		on(read, "core", "pods"),
		on("create delete", "core", "pods"),
		on("patch update", "core", "pods/status"),
		on("create", "core", "pods/eviction"),
		on(read, "core", "configmaps secrets"),
		on("get", "core", "persistentvolumeclaims persistentvolumes"),
		on("get", "core", "endpoints"),
		on("create "+read, "certificates.k8s.io", "certificatesigningrequests"),
		on("create delete get patch update", "coordination.k8s.io", "leases"),
		on("get", "storage.k8s.io", "volumeattachments"),
		on("create", "core", "serviceaccounts/token"),
		on("get", "core", "serviceaccounts"),
		on("get patch update", "core", "persistentvolumeclaims/status"),
		on(read, "storage.k8s.io", "csidrivers"),
		on("create delete get patch update", "storage.k8s.io", "csinodes"),
		on(read, "node.k8s.io", "runtimeclasses"),
		on("get", "resource.k8s.io", "resourceclaims"),
		on("deletecollection", "resource.k8s.io", "resourceslices"),
		on(read, "certificates.k8s.io", "clustertrustbundles"),
		on("create "+read, "certificates.k8s.io", "podcertificaterequests"),
	}
}

// componentRoles are the roles of the cluster's own parts and of its well-known add-ons.
func componentRoles() []api.Object {
	out := []api.Object{
		clusterRole("system:node", nodeRules()...),
		clusterRole("system:node-bootstrapper", on("create "+read, "certificates.k8s.io", "certificatesigningrequests")),
		clusterRole("system:node-problem-detector", on("get", "core", "nodes"), on("patch", "core", "nodes/status"), events()),
		clusterRole("system:node-proxier",
			on(follow, "core", "endpoints services"), on(read, "core", "nodes"), events(),
			on(follow, "discovery.k8s.io", "endpointslices"), on(follow, "networking.k8s.io", "servicecidrs")),
		clusterRole("system:kubelet-api-admin",
			on(read, "core", "nodes"), on("proxy", "core", "nodes"),
			on("*", "core", "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats")),
		clusterRole("system:auth-delegator",
			on("create", "authentication.k8s.io", "tokenreviews"), on("create", "authorization.k8s.io", "subjectaccessreviews")),
		clusterRole("system:kube-aggregator", on(read, "core", "endpoints services")),
		clusterRole("system:heapster", on(read, "core", "events namespaces nodes pods"), on(read, "extensions", "deployments")),
		clusterRole("system:kube-dns", on(follow, "core", "endpoints services")),
		clusterRole("system:persistent-volume-provisioner",
			on("create delete "+read, "core", "persistentvolumes"), on("update "+read, "core", "persistentvolumeclaims"),
			on(read, "storage.k8s.io", "storageclasses"), on("watch", "core", "events"), events()),
		clusterRole("system:volume-scheduler",
			on("patch update "+read, "core", "persistentvolumes"), on(read, "storage.k8s.io", "storageclasses"),
			on("patch update "+read, "core", "persistentvolumeclaims")),
		schedulerRole(), controllerManagerRole(),

		// The node authorizer replaces this binding; it stays for tools that look for it.
		bindCluster("system:node", "system:node"),
		bindCluster("system:node-proxier", "system:node-proxier", user("system:kube-proxy")),
		bindCluster("system:kube-controller-manager", "system:kube-controller-manager", user("system:kube-controller-manager")),
		bindCluster("system:kube-dns", "system:kube-dns", account("kube-dns")),
		bindCluster("system:kube-scheduler", "system:kube-scheduler", user("system:kube-scheduler")),
		bindCluster("system:volume-scheduler", "system:volume-scheduler", user("system:kube-scheduler")),
	}
	return append(out, signerRoles()...)
}

func schedulerRole() api.Object {
	return clusterRole("system:kube-scheduler",
		events(),
		on("create", "coordination.k8s.io", "leases"),
		onNamed("update "+read, "coordination.k8s.io", "leases", "kube-scheduler"),
		on(readWrite, "coordination.k8s.io", "leasecandidates"),
		on(read, "core", "nodes"),
		on("delete "+read, "core", "pods"),
		on("create", "core", "bindings pods/binding"),
		on("patch update", "core", "pods/status"),
		on(read, "core", "replicationcontrollers services"),
		on(read, "apps extensions", "replicasets"),
		on(read, "apps", "statefulsets"),
		on(read, "policy", "poddisruptionbudgets"),
		on(read, "core", "persistentvolumeclaims persistentvolumes"),
		on("create", "authentication.k8s.io", "tokenreviews"),
		on("create", "authorization.k8s.io", "subjectaccessreviews"),
		on(read, "storage.k8s.io", "csinodes"),
		on(read, "core", "namespaces"),
		on(read, "storage.k8s.io", "csidrivers"),
		on(read, "storage.k8s.io", "csistoragecapacities"),
		on(read, "storage.k8s.io", "volumeattachments"),
		on("update", "core", "pods/finalizers"),
		on(read, "resource.k8s.io", "deviceclasses devicetaintrules resourceslices"),
		on("create delete patch update "+read, "resource.k8s.io", "resourceclaims"),
		on("patch update "+read, "resource.k8s.io", "resourceclaims/status"),
		on("patch update", "resource.k8s.io", "resourceclaims/binding"),
	)
}

func controllerManagerRole() api.Object {
	return clusterRole("system:kube-controller-manager",
		events(),
		on("create", "coordination.k8s.io", "leases"),
		onNamed("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
		on("create", "core", "secrets serviceaccounts"),
		on("delete", "core", "secrets"),
		on("get", "core", "configmaps namespaces secrets serviceaccounts"),
		on("update", "core", "secrets serviceaccounts"),
		on("create", "authentication.k8s.io", "tokenreviews"),
		on("create", "authorization.k8s.io", "subjectaccessreviews"),
		on(follow, "*", "*"),
		on("create", "core", "serviceaccounts/token"),
	)
}

func signerRoles() []api.Object {
	const certificates = "certificates.k8s.io"
	return []api.Object{
		clusterRole("system:certificates.k8s.io:certificatesigningrequests:nodeclient", on("create", certificates, "certificatesigningrequests/nodeclient")),
		clusterRole("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", on("create", certificates, "certificatesigningrequests/selfnodeclient")),
		clusterRole("system:certificates.k8s.io:kube-apiserver-client-approver", onNamed("approve", certificates, "signers", "kubernetes.io/kube-apiserver-client")),
		clusterRole("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver", onNamed("approve", certificates, "signers", "kubernetes.io/kube-apiserver-client-kubelet")),
		clusterRole("system:certificates.k8s.io:kubelet-serving-approver", onNamed("approve", certificates, "signers", "kubernetes.io/kubelet-serving")),
		clusterRole("system:certificates.k8s.io:legacy-unknown-approver", onNamed("approve", certificates, "signers", "kubernetes.io/legacy-unknown")),
		clusterRole("system:cluster-trust-bundle-discovery", on(read, certificates, "clustertrustbundles")),
		bindCluster("system:cluster-trust-bundle-discovery", "system:cluster-trust-bundle-discovery", group(serviceAccountsGroup)),
	}
}

// namespacedRoles are those that Kubernetes keeps in kube-system and kube-public.
func namespacedRoles() []api.Object {
	const system, public = "kube-system", "kube-public"
	leader := func(name string) api.Object {
		return role(system, "system::leader-locking-"+name,
			on("create update "+read, "coordination.k8s.io", "leases"), on("create update "+read, "coordination.k8s.io", "leasecandidates"))
	}
	return []api.Object{
		role(system, "extension-apiserver-authentication-reader",
			onNamed(read, "core", "configmaps", "extension-apiserver-authentication")),
		role(system, "system:controller:bootstrap-signer", on(read, "core", "secrets")),
		role(system, "system:controller:cloud-provider", on("create "+read, "core", "configmaps")),
		role(system, "system:controller:token-cleaner", on("delete "+read, "core", "secrets"), events()),
		leader("kube-controller-manager"), leader("kube-scheduler"),
		role(public, "system:controller:bootstrap-signer",
			on(read, "core", "configmaps"), onNamed("update", "core", "configmaps", "cluster-info"), events()),

		bindRole(system, "system::extension-apiserver-authentication-reader", "extension-apiserver-authentication-reader",
			user("system:kube-controller-manager"), user("system:kube-scheduler")),
		bindRole(system, "system::leader-locking-kube-controller-manager", "system::leader-locking-kube-controller-manager",
			user("system:kube-controller-manager"), account("kube-controller-manager"), account("leader-election-controller")),
		bindRole(system, "system::leader-locking-kube-scheduler", "system::leader-locking-kube-scheduler",
			user("system:kube-scheduler"), account("kube-scheduler")),
		bindRole(system, "system:controller:bootstrap-signer", "system:controller:bootstrap-signer", account("bootstrap-signer")),
		bindRole(system, "system:controller:cloud-provider", "system:controller:cloud-provider", account("cloud-provider")),
		bindRole(system, "system:controller:token-cleaner", "system:controller:token-cleaner", account("token-cleaner")),
		bindRole(public, "system:controller:bootstrap-signer", "system:controller:bootstrap-signer", account("bootstrap-signer")),
	}
}

// joinRoles let machines with a join token ask for a node certificate, and nodes renew theirs.
func joinRoles() []api.Object {
	getNodes := clusterRole("kubeadm:get-nodes", on("get", "core", "nodes"))
	admins := bindCluster("kubeadm:cluster-admins", "cluster-admin", group("kubeadm:cluster-admins"))
	return []api.Object{
		getNodes, admins,
		bindCluster("kubeadm:get-nodes", "kubeadm:get-nodes", group(DefaultNodesGroup)),
		bindCluster("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", group(DefaultNodesGroup)),
		bindCluster("kubeadm:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", group(DefaultNodesGroup)),
		bindCluster("kubeadm:node-autoapprove-certificate-rotation", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", group(Nodes)),
	}
}
