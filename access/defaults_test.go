package access

import (
	"bufio"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// The published bootstrap policy of Kubernetes 1.37 is testdata/defaults.txt, an object a
// paragraph: kind, name and labels; then what it collects, its rules
// (verbs | groups | resources | names, or verbs | paths), its role and its subjects.
//
// ours are the differences that are meant: what Kubernetes keeps elsewhere.
var ours = map[string]string{
	"kubeadm:": "added by kubeadm, not by the API server: machines join by these",
}

// facts takes an object apart into single grants, so that the grouping of rules is free.
type facts map[string]bool

func (f facts) rule(r rbacv1.PolicyRule) {
	for _, verb := range r.Verbs {
		for _, path := range r.NonResourceURLs {
			f["may "+verb+" "+path] = true
		}
		for _, g := range r.APIGroups {
			for _, res := range r.Resources {
				names := r.ResourceNames
				if len(names) == 0 {
					names = []string{"(any)"}
				}
				for _, name := range names {
					f["may "+strings.Join([]string{verb, g, res, name}, "|")] = true
				}
			}
		}
	}
}

func (f facts) binding(ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
	f["to "+ref.Kind+" "+ref.Name] = true
	for _, s := range subjects {
		name := s.Name
		if s.Namespace != "" {
			name = s.Namespace + "/" + name
		}
		f["subject "+s.Kind+" "+name] = true
	}
}

func (f facts) labels(all map[string]string) {
	for k := range all {
		if k != bootstrapLabel {
			f["label "+k] = true
		}
	}
}

func published(t *testing.T) map[string]facts {
	t.Helper()
	file, err := os.Open("testdata/defaults.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	out, current := map[string]facts{}, facts(nil)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		words := strings.Fields(line)
		switch {
		case !strings.HasPrefix(line, " "):
			current = facts{}
			out[words[0]+" "+words[1]] = current
			for _, l := range words[2:] {
				current["label "+l] = true
			}
		case words[0] == "collects" || words[0] == "to" || words[0] == "subject":
			current[strings.Join(words, " ")] = true
		default:
			current.rule(parseRule(line))
		}
	}
	return out
}

func parseRule(line string) rbacv1.PolicyRule {
	var parts [][]string
	for p := range strings.SplitSeq(line, "|") {
		parts = append(parts, strings.Split(strings.TrimSpace(p), ","))
	}
	if len(parts) == 2 {
		return rbacv1.PolicyRule{Verbs: parts[0], NonResourceURLs: parts[1]}
	}
	for i, g := range parts[1] {
		if g == "core" {
			parts[1][i] = ""
		}
	}
	r := rbacv1.PolicyRule{Verbs: parts[0], APIGroups: parts[1], Resources: parts[2]}
	if len(parts) == 4 {
		r.ResourceNames = parts[3]
	}
	return r
}

func served() map[string]facts {
	out := map[string]facts{}
	for _, o := range DefaultObjects() {
		f := facts{}
		f.labels(o.GetLabels())
		name := o.GetName()
		if ns := o.GetNamespace(); ns != "" {
			name = ns + "/" + name
		}
		kind := o.GetObjectKind().GroupVersionKind().Kind
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			for _, r := range o.Rules {
				f.rule(r)
			}
			if o.AggregationRule != nil {
				for _, s := range o.AggregationRule.ClusterRoleSelectors {
					f["collects "+strings.Join(slices.Sorted(maps.Keys(s.MatchLabels)), ",")] = true
				}
			}
		case *rbacv1.Role:
			for _, r := range o.Rules {
				f.rule(r)
			}
		case *rbacv1.ClusterRoleBinding:
			f.binding(o.RoleRef, o.Subjects)
		case *rbacv1.RoleBinding:
			f.binding(o.RoleRef, o.Subjects)
		}
		out[kind+" "+name] = f
	}
	return out
}

func TestDefaultsAreThePublishedOnes(t *testing.T) {
	want, have := published(t), served()
	if len(want) < 140 {
		t.Fatalf("only %d objects published", len(want))
	}
	for name, f := range want {
		got, ok := have[name]
		if !ok {
			t.Errorf("%s is missing", name)
			continue
		}
		for fact := range f {
			if !got[fact] {
				t.Errorf("%s lacks %q", name, fact)
			}
		}
		for fact := range got {
			if !f[fact] {
				t.Errorf("%s has %q, which nobody published", name, fact)
			}
		}
	}
	for name := range have {
		_, known := want[name]
		_, object, _ := strings.Cut(name, " ")
		meant := slices.ContainsFunc(slices.Collect(maps.Keys(ours)), func(prefix string) bool { return strings.HasPrefix(object, prefix) })
		if !known && !meant {
			t.Errorf("%s is nobody's default", name)
		}
	}
}
