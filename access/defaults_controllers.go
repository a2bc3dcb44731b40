package access

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/proa-dev/proa/apis/api"
)

const controllerPrefix = "system:controller:"

// controllerRoles gives each controller its role, bound to its service account in kube-system.
func controllerRoles() []api.Object {
	var out []api.Object
	for _, c := range controllers() {
		out = append(out, clusterRole(controllerPrefix+c.name, c.rules...),
			bindCluster(controllerPrefix+c.name, controllerPrefix+c.name, account(c.name)))
	}
	return out
}

type controller struct {
	name  string
	rules []rbacv1.PolicyRule
}

// may is a controller that also reports events.
func may(name string, rules ...rbacv1.PolicyRule) controller {
	return controller{name, append(rules, events())}
}

// silently is a controller that reports no events.
func silently(name string, rules ...rbacv1.PolicyRule) controller {
	return controller{name, rules}
}

func controllers() []controller {
	return append(append(workloadControllers(), clusterControllers()...), storageControllers()...)
}

func workloadControllers() []controller {
	const change = "create delete patch"
	const manage = "create delete get list patch update watch"
	apps := "apps extensions"
	return []controller{
		may("cronjob-controller",
			on("update "+read, "batch", "cronjobs"), on(manage, "batch", "jobs"), on("update", "batch", "cronjobs/status"),
			on("update", "batch", "cronjobs/finalizers"), on("delete "+follow, "core", "pods")),
		may("daemon-set-controller",
			on(read, apps, "daemonsets"), on("update", apps, "daemonsets/status"), on("update", apps, "daemonsets/finalizers"),
			on(follow, "core", "nodes"), on(change+" "+follow, "core", "pods"), on("create", "core", "pods/binding"),
			on(manage, "apps", "controllerrevisions")),
		may("deployment-controller",
			on("update "+read, apps, "deployments"), on("update", apps, "deployments/status"), on("update", apps, "deployments/finalizers"),
			on(manage, apps, "replicasets"), on("update "+read, "core", "pods")),
		may("disruption-controller",
			on(read, apps, "deployments"), on(read, apps, "replicasets"), on(read, "core", "replicationcontrollers"),
			on(read, "policy", "poddisruptionbudgets"), on(read, "apps", "statefulsets"), on("update", "policy", "poddisruptionbudgets/status"),
			on("patch update", "core", "pods/status"), on("get", "*", "*/scale")),
		may("horizontal-pod-autoscaler",
			on(read, "autoscaling", "horizontalpodautoscalers"), on("update", "autoscaling", "horizontalpodautoscalers/status"),
			on("get update", "*", "*/scale"), on(follow, "core", "pods"), on(follow, "metrics.k8s.io", "pods"),
			on(read, "custom.metrics.k8s.io", "*"), on(read, "external.metrics.k8s.io", "*")),
		may("job-controller",
			on("patch update "+read, "batch", "jobs"), on("update", "batch", "jobs/status"), on("update", "batch", "jobs/finalizers"),
			on(change+" "+follow, "core", "pods")),
		may("replicaset-controller",
			on("update "+read, apps, "replicasets"), on("update", apps, "replicasets/status"), on("update", apps, "replicasets/finalizers"),
			on(change+" "+follow, "core", "pods")),
		may("replication-controller",
			on("update "+read, "core", "replicationcontrollers"), on("update", "core", "replicationcontrollers/status"),
			on("update", "core", "replicationcontrollers/finalizers"), on(change+" "+follow, "core", "pods")),
		may("statefulset-controller",
			on(follow, "core", "pods"), on(read, "apps", "statefulsets"), on("update", "apps", "statefulsets/status"),
			on("update", "apps", "statefulsets/finalizers"), on(change+" get update", "core", "pods"),
			on(manage, "apps", "controllerrevisions"), on("create "+read, "core", "persistentvolumeclaims"),
			on("delete update", "core", "persistentvolumeclaims"), on("update", "core", "pods/finalizers")),
		may("ttl-after-finished-controller", on("delete "+read, "batch", "jobs")),
		may("endpoint-controller",
			on(read, "core", "pods services"), on("create delete update "+read, "core", "endpoints"), on("create", "core", "endpoints/restricted")),
		may("endpointslice-controller",
			on(read, "core", "nodes pods services"), on("update", "core", "services/finalizers"),
			on("create delete update "+read, "discovery.k8s.io", "endpointslices")),
		may("endpointslicemirroring-controller",
			on(read, "core", "endpoints services"), on("update", "core", "services/finalizers"), on("update", "core", "endpoints/finalizers"),
			on("create delete update "+read, "discovery.k8s.io", "endpointslices")),
		may("resource-claim-controller",
			on(read, "core", "pods"), on("update", "core", "pods/finalizers"), on("create delete "+read, "resource.k8s.io", "resourceclaims"),
			on("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status"), on("patch update", "core", "pods/status"),
			on("patch update", "resource.k8s.io", "resourceclaims/binding")),
		may("device-taint-eviction-controller",
			on("delete "+read, "core", "pods"), on("patch update", "core", "pods/status"), on(read, "resource.k8s.io", "resourceclaims"),
			on(read, "resource.k8s.io", "deviceclasses devicetaintrules resourceslices"), on("patch update", "resource.k8s.io", "devicetaintrules/status")),
	}
}

func clusterControllers() []controller {
	const certificates = "certificates.k8s.io"
	return []controller{
		may("certificate-controller",
			on("delete "+read, certificates, "certificatesigningrequests"),
			on("update", certificates, "certificatesigningrequests/approval certificatesigningrequests/status"),
			onNamed("approve", certificates, "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
			onNamed("sign", certificates, "signers", "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown"),
			on("create", "authorization.k8s.io", "subjectaccessreviews")),
		silently("clusterrole-aggregation-controller", on("escalate patch update "+read, "rbac.authorization.k8s.io", "clusterroles")),
		may("generic-garbage-collector", on("delete patch update "+read, "*", "*")),
		may("kube-apiserver-serving-clustertrustbundle-publisher",
			onNamed("attest", certificates, "signers", "kubernetes.io/kube-apiserver-serving"),
			on("create delete list update watch", certificates, "clustertrustbundles")),
		silently("legacy-service-account-token-cleaner",
			onNamed("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"), on("delete patch", "core", "secrets")),
		silently("namespace-controller",
			on("delete "+read, "core", "namespaces"), on("update", "core", "namespaces/finalize namespaces/status"),
			on("delete deletecollection "+read, "*", "*")),
		may("node-controller",
			on("delete patch update "+read, "core", "nodes"), on("patch update", "core", "nodes/status"),
			on("patch update", "core", "pods/status"), on("delete "+read, "core", "pods"), on(read, "coordination.k8s.io", "leases")),
		silently("podcertificaterequestcleaner", on("delete "+read, certificates, "podcertificaterequests")),
		silently("pod-garbage-collector",
			on("delete "+follow, "core", "pods"), on(read, "core", "nodes"), on("patch", "core", "pods/status")),
		may("resourcequota-controller", on(follow, "*", "*"), on("update", "core", "resourcequotas/status")),
		may("root-ca-cert-publisher", on("create update", "core", "configmaps")),
		may("route-controller", on(follow, "core", "nodes"), on("patch", "core", "nodes/status")),
		may("service-account-controller", on("create", "core", "serviceaccounts")),
		may("service-cidrs-controller",
			on("patch update "+read, "networking.k8s.io", "servicecidrs"), on("patch update", "networking.k8s.io", "servicecidrs/finalizers"),
			on("patch update", "networking.k8s.io", "servicecidrs/status"), on(read, "networking.k8s.io", "ipaddresses")),
		may("service-controller",
			on(read, "core", "services"), on("patch update", "core", "services/status"), on(follow, "core", "nodes")),
		silently("storage-version-migrator-controller",
			on("list patch", "*", "*"), on("get", "apiextensions.k8s.io", "customresourcedefinitions"),
			on("patch", "apiextensions.k8s.io", "customresourcedefinitions/status"),
			on("update", "storagemigration.k8s.io", "storageversionmigrations/status")),
		may("ttl-controller", on("patch update "+follow, "core", "nodes")),
		may("validatingadmissionpolicy-status-controller",
			on(read, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
			on("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status")),
	}
}

func storageControllers() []controller {
	const storage = "storage.k8s.io"
	return []controller{
		may("attachdetach-controller",
			on(follow, "core", "persistentvolumeclaims persistentvolumes"), on(read, "core", "nodes"), on("patch update", "core", "nodes/status"),
			on(follow, "core", "pods"), on("create delete "+read, storage, "volumeattachments"),
			on(read, storage, "csidrivers"), on(read, storage, "csinodes")),
		may("ephemeral-volume-controller",
			on(read, "core", "pods"), on("update", "core", "pods/finalizers"), on("create "+read, "core", "persistentvolumeclaims")),
		may("expand-controller",
			on("patch update "+read, "core", "persistentvolumes"), on("patch update", "core", "persistentvolumeclaims/status"),
			on(read, "core", "persistentvolumeclaims")),
		may("persistent-volume-binder",
			on("create delete update "+read, "core", "persistentvolumes"), on("update", "core", "persistentvolumes/status"),
			on("update "+read, "core", "persistentvolumeclaims"), on("update", "core", "persistentvolumeclaims/status"),
			on("create delete "+read, "core", "pods"), on(read, storage, "storageclasses"), on(follow, "core", "nodes"),
			on("watch", "core", "events")),
		may("pv-protection-controller", on("update "+read, "core", "persistentvolumes")),
		may("pvc-protection-controller",
			on("update "+read, "core", "persistentvolumeclaims"), on("update", "core", "persistentvolumeclaims/status"), on(read, "core", "pods")),
		may("selinux-warning-controller",
			on(read, "core", "persistentvolumes"), on(read, "core", "persistentvolumeclaims"), on(read, "core", "pods"), on(read, storage, "csidrivers")),
		may("volumeattributesclass-protection-controller",
			on(read, "core", "persistentvolumeclaims"), on(read, "core", "persistentvolumes"), on("update "+read, storage, "volumeattributesclasses")),
	}
}
