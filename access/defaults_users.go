package access

import "github.com/proa-dev/proa/apis/api"

// userRoles are the roles made for people, and those that everyone has.
func userRoles() []api.Object {
	paths := "/healthz /livez /readyz /version /version/"
	return []api.Object{
		clusterRole("cluster-admin", on("*", "*", "*"), onPaths("*", "*")),
		aggregating("admin", aggregateToAdmin),
		aggregating("edit", aggregateToEdit, aggregateToAdmin),
		aggregating("view", aggregateToView, aggregateToEdit),
		labelled(clusterRole("system:aggregate-to-admin",
			on("create", "authorization.k8s.io", "localsubjectaccessreviews"),
			on(readWrite, "rbac.authorization.k8s.io", "rolebindings roles")), aggregateToAdmin),
		aggregateToEditRole(),
		aggregateToViewRole(),
		clusterRole("system:discovery", onPaths("get", "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/")),
		clusterRole("system:public-info-viewer", onPaths("get", paths)),
		clusterRole("system:basic-user",
			on("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
			on("create", "authentication.k8s.io", "selfsubjectreviews")),
		clusterRole("system:service-account-issuer-discovery", onPaths("get", "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/")),
		clusterRole("system:monitoring",
			onPaths("get", "/flagz /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz"),
			on("get", "core", "nodes/metrics")),

		bindCluster("cluster-admin", "cluster-admin", group(Masters)),
		bindCluster("system:monitoring", "system:monitoring", group(Monitoring)),
		bindCluster("system:discovery", "system:discovery", group(Authenticated)),
		bindCluster("system:basic-user", "system:basic-user", group(Authenticated)),
		bindCluster("system:public-info-viewer", "system:public-info-viewer", group(Authenticated), group(Unauthenticated)),
		bindCluster("system:service-account-issuer-discovery", "system:service-account-issuer-discovery", group(serviceAccountsGroup)),
	}
}

func aggregateToEditRole() api.Object {
	return labelled(clusterRole("system:aggregate-to-edit",
		on(read, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
		on("impersonate", "core", "serviceaccounts"),
		on(write, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
		on("create", "core", "pods/eviction"),
		on(write, "core", "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy"),
		on("create", "core", "serviceaccounts/token"),
		on(write, "core events.k8s.io", "events"),
		on(write, "apps", "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale"),
		on(write, "autoscaling", "horizontalpodautoscalers"),
		on(write, "batch", "cronjobs jobs"),
		on(write, "extensions", "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale"),
		on(write, "policy", "poddisruptionbudgets"),
		on(write, "networking.k8s.io", "ingresses networkpolicies"),
		on(readWrite, "coordination.k8s.io", "leases"),
		on(write, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
	), aggregateToEdit)
}

func aggregateToViewRole() api.Object {
	return labelled(clusterRole("system:aggregate-to-view",
		on(read, "core", "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status"),
		on(read, "core", "bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status"),
		on(read, "core", "namespaces"),
		on(read, "core events.k8s.io", "events"),
		on(read, "discovery.k8s.io", "endpointslices"),
		on(read, "apps", "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status"),
		on(read, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
		on(read, "batch", "cronjobs cronjobs/status jobs jobs/status"),
		on(read, "extensions", "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale"),
		on(read, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
		on(read, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
		on(read, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
	), aggregateToView)
}
