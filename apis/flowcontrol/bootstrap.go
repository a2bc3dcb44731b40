package flowcontrol

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MandatoryLevels are the priority levels that always exist as they are; the caller owns them.
func MandatoryLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	zero := func() *int32 { return new(int32) }
	return []*flowcontrolv1.PriorityLevelConfiguration{
		{ObjectMeta: kept("exempt"), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type:   flowcontrolv1.PriorityLevelEnablementExempt,
			Exempt: &flowcontrolv1.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: zero(), LendablePercent: zero()},
		}},
		limited("catch-all", 5, 0, flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}),
	}
}

// SuggestedLevels are the priority levels that a new cluster begins with beside those.
func SuggestedLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	return []*flowcontrolv1.PriorityLevelConfiguration{
		limited("system", 30, 33, queues(64, 6)),
		limited("node-high", 40, 25, queues(64, 6)),
		limited("leader-election", 10, 0, queues(16, 4)),
		limited("workload-high", 40, 50, queues(128, 6)),
		limited("workload-low", 100, 90, queues(128, 6)),
		limited("global-default", 20, 50, queues(128, 6)),
	}
}

// MandatorySchemas are the flow schemas that always exist as they are; the caller owns them.
func MandatorySchemas() []*flowcontrolv1.FlowSchema {
	return []*flowcontrolv1.FlowSchema{
		schema("exempt", "exempt", 1, "", everything(groups("system:masters")...)),
		schema("catch-all", "catch-all", 10000, byUser, everything(everyone()...)),
	}
}

// SuggestedSchemas are the flow schemas that a new cluster begins with beside those.
func SuggestedSchemas() []*flowcontrolv1.FlowSchema {
	manager, scheduler := "system:kube-controller-manager", "system:kube-scheduler"
	nodes, system := groups("system:nodes"), accounts(metav1.NamespaceSystem)
	leases := on([]string{"get", "create", "update"}, "coordination.k8s.io", false, "leases")
	return []*flowcontrolv1.FlowSchema{
		schema("system-nodes", "system", 500, byUser, everything(nodes...)),
		schema("system-node-high", "node-high", 400, byUser, flowcontrolv1.PolicyRulesWithSubjects{
			Subjects: nodes,
			ResourceRules: []flowcontrolv1.ResourcePolicyRule{
				on([]string{all}, "", true, "nodes", "nodes/status"), on([]string{all}, "coordination.k8s.io", false, "leases"),
			},
		}),
		schema("probes", "exempt", 2, "", flowcontrolv1.PolicyRulesWithSubjects{
			Subjects:         everyone(),
			NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/readyz", "/livez"}}},
		}),
		schema("system-leader-election", "leader-election", 100, byUser, flowcontrolv1.PolicyRulesWithSubjects{
			Subjects: append(users(manager, scheduler), system...), ResourceRules: []flowcontrolv1.ResourcePolicyRule{leases},
		}),
		schema("kube-controller-manager", "workload-high", 800, byNamespace, everything(users(manager)...)),
		schema("kube-scheduler", "workload-high", 800, byNamespace, everything(users(scheduler)...)),
		schema("kube-system-service-accounts", "workload-high", 900, byNamespace, everything(system...)),
		schema("service-accounts", "workload-low", 9000, byUser, everything(groups("system:serviceaccounts")...)),
		schema("global-default", "global-default", 9900, byUser, everything(everyone()...)),
	}
}

const (
	byUser      = flowcontrolv1.FlowDistinguisherMethodByUserType
	byNamespace = flowcontrolv1.FlowDistinguisherMethodByNamespaceType
)

// kept is the metadata of an object that this server keeps as it should be, until its owner
// says otherwise.
func kept(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: "true"}}
}

func limited(name string, shares, lendable int32, response flowcontrolv1.LimitResponse) *flowcontrolv1.PriorityLevelConfiguration {
	return &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: kept(name), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
		Type: flowcontrolv1.PriorityLevelEnablementLimited,
		Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
			NominalConcurrencyShares: &shares, LendablePercent: &lendable, LimitResponse: response,
		},
	}}
}

func queues(n, hand int32) flowcontrolv1.LimitResponse {
	return flowcontrolv1.LimitResponse{
		Type: flowcontrolv1.LimitResponseTypeQueue, Queuing: &flowcontrolv1.QueuingConfiguration{Queues: n, HandSize: hand, QueueLengthLimit: 50},
	}
}

func schema(name, level string, precedence int32, method flowcontrolv1.FlowDistinguisherMethodType, rules ...flowcontrolv1.PolicyRulesWithSubjects) *flowcontrolv1.FlowSchema {
	s := &flowcontrolv1.FlowSchema{ObjectMeta: kept(name), Spec: flowcontrolv1.FlowSchemaSpec{
		PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level}, MatchingPrecedence: precedence, Rules: rules,
	}}
	if method != "" {
		s.Spec.DistinguisherMethod = &flowcontrolv1.FlowDistinguisherMethod{Type: method}
	}
	return s
}

func everything(subjects ...flowcontrolv1.Subject) flowcontrolv1.PolicyRulesWithSubjects {
	return flowcontrolv1.PolicyRulesWithSubjects{
		Subjects:         subjects,
		ResourceRules:    []flowcontrolv1.ResourcePolicyRule{on([]string{all}, all, true, all)},
		NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{all}, NonResourceURLs: []string{all}}},
	}
}

func on(verbs []string, group string, clusterScope bool, resources ...string) flowcontrolv1.ResourcePolicyRule {
	return flowcontrolv1.ResourcePolicyRule{
		Verbs: verbs, APIGroups: []string{group}, Resources: resources, Namespaces: []string{all}, ClusterScope: clusterScope,
	}
}

func everyone() []flowcontrolv1.Subject {
	return groups("system:unauthenticated", "system:authenticated")
}

func groups(names ...string) (out []flowcontrolv1.Subject) {
	for _, name := range names {
		out = append(out, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: name}})
	}
	return out
}

func users(names ...string) (out []flowcontrolv1.Subject) {
	for _, name := range names {
		out = append(out, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: name}})
	}
	return out
}

func accounts(namespace string) []flowcontrolv1.Subject {
	return []flowcontrolv1.Subject{{
		Kind: flowcontrolv1.SubjectKindServiceAccount, ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Name: all, Namespace: namespace},
	}}
}
