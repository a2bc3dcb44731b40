package match

import (
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// GetResource is that of the request, as the library wants it.
func (q requested) GetResource() schema.GroupVersionResource { return q.r.Kind.Resource }

// fieldSelector writes a question's selector as a query has it; one that cannot be read is none.
func fieldSelector(q authorizer.Attributes) string {
	all, err := q.GetFieldSelector()
	if err != nil {
		return ""
	}
	var terms []string
	for _, r := range all {
		terms = append(terms, r.Field+string(r.Operator)+fields.EscapeValue(r.Value))
	}
	return strings.Join(terms, ",")
}

func labelSelector(q authorizer.Attributes) string {
	all, err := q.GetLabelSelector()
	if err != nil || len(all) == 0 {
		return ""
	}
	return labels.NewSelector().Add(all...).String()
}
