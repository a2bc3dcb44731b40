package access

import (
	"reflect"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const all = "*"

func ruleAllows(rule *rbacv1.PolicyRule, a *Attributes) bool {
	if !hasOrAll(rule.Verbs, a.Verb) {
		return false
	}
	if !a.Resource {
		return pathMatches(rule.NonResourceURLs, a.Path)
	}
	return hasOrAll(rule.APIGroups, a.Group) && resourceMatches(rule.Resources, a.Plural, a.Subresource) &&
		(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, a.Name))
}

func hasOrAll(list []string, want string) bool {
	for _, s := range list {
		if s == want || s == all {
			return true
		}
	}
	return false
}

// resourceMatches knows "*", "pods", "pods/log" and "*/scale".
func resourceMatches(list []string, plural, subresource string) bool {
	for _, s := range list {
		if s == all {
			return true
		}
		if subresource == "" {
			if s == plural {
				return true
			}
			continue
		}
		head, tail, ok := strings.Cut(s, "/")
		if ok && tail == subresource && (head == plural || head == all) {
			return true
		}
	}
	return false
}

func pathMatches(list []string, path string) bool {
	for _, s := range list {
		if s == all || s == path {
			return true
		}
		if prefix, ok := strings.CutSuffix(s, all); ok && strings.HasPrefix(path, strings.TrimRight(prefix, all)) {
			return true
		}
	}
	return false
}

// aggregate gives the rules of a cluster role that collects others: its selectors may find
// roles that collect in turn; circles end.
func aggregate(role *rbacv1.ClusterRole, clusters map[string]*rbacv1.ClusterRole) []rbacv1.PolicyRule {
	names := make([]string, 0, len(clusters))
	for name := range clusters {
		names = append(names, name)
	}
	slices.Sort(names)
	seen := map[string]bool{role.Name: true}
	var rules []rbacv1.PolicyRule
	var collect func(*rbacv1.ClusterRole)
	collect = func(from *rbacv1.ClusterRole) {
		for i := range from.AggregationRule.ClusterRoleSelectors {
			selector, err := metav1.LabelSelectorAsSelector(&from.AggregationRule.ClusterRoleSelectors[i])
			if err != nil {
				continue // validation refuses such selectors
			}
			for _, name := range names {
				found := clusters[name]
				if seen[name] || !selector.Matches(labels.Set(found.Labels)) {
					continue
				}
				seen[name] = true
				if found.AggregationRule != nil {
					collect(found)
					continue
				}
				rules = appendNew(rules, found.Rules)
			}
		}
	}
	collect(role)
	return rules
}

func appendNew(rules, more []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	for _, rule := range more {
		if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return reflect.DeepEqual(r, rule) }) {
			rules = append(rules, rule)
		}
	}
	return rules
}

// AggregateRules gives the rules that the collecting cluster role should show, from all
// cluster roles. For the loop that writes them.
func AggregateRules(role *rbacv1.ClusterRole, every []*rbacv1.ClusterRole) []rbacv1.PolicyRule {
	clusters := make(map[string]*rbacv1.ClusterRole, len(every))
	for _, c := range every {
		clusters[c.Name] = c
	}
	return aggregate(role, clusters)
}
