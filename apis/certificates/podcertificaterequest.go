package certificates

import (
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

type podRequest = *certificatesv1.PodCertificateRequest

var podRequestDoc = certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()

// PodCertificateRequests are how a node asks for a certificate on behalf of a pod.
var PodCertificateRequests = api.Define(api.Resource[podRequest]{
	Group: certificatesv1.GroupName, Version: "v1", Kind: "PodCertificateRequest", Plural: "podcertificaterequests", Namespaced: true,
	Alike: []string{"v1beta1"}, Written: "v1beta1",
	HasStatus: true,
	Unowned:   map[string][]string{"status": {"spec", "metadata"}},
	Default: func(r podRequest) {
		if r.Spec.MaxExpirationSeconds == nil {
			day := int32(86400)
			r.Spec.MaxExpirationSeconds = &day
		}
	},
	ValidateCreate: validatePodRequest,
	ValidateUpdate: func(r, old podRequest) field.ErrorList {
		return check.Immutable(field.NewPath("spec"), r.Spec, old.Spec)
	},
	ValidateStatus: validatePodRequestStatus,
	Fields: map[string]func(podRequest) string{
		"spec.signerName": func(r podRequest) string { return r.Spec.SignerName },
		"spec.podName":    func(r podRequest) string { return r.Spec.PodName },
		"spec.nodeName":   func(r podRequest) string { return string(r.Spec.NodeName) },
	},
	Indexes: []string{"spec.nodeName"},
	Columns: []api.Column[podRequest]{
		api.Text("PodName", podRequestDoc["podName"], func(r podRequest) string { return r.Spec.PodName }),
		api.Text("ServiceAccountName", podRequestDoc["serviceAccountName"], func(r podRequest) string { return r.Spec.ServiceAccountName }),
		api.Text("NodeName", podRequestDoc["nodeName"], func(r podRequest) string { return string(r.Spec.NodeName) }),
		api.Text("SignerName", podRequestDoc["signerName"], func(r podRequest) string { return r.Spec.SignerName }),
		api.Text("State", "Is the request Pending, Issued, Denied, or Failed?", podRequestState),
		api.Text("UnverifiedUserAnnotations", podRequestDoc["unverifiedUserAnnotations"], func(r podRequest) string {
			var list []string
			for _, key := range slices.Sorted(maps.Keys(r.Spec.UnverifiedUserAnnotations)) {
				list = append(list, key+"="+r.Spec.UnverifiedUserAnnotations[key])
			}
			if len(list) == 0 {
				return "<none>"
			}
			return strings.Join(list, ",")
		}),
	},
})

// outcomes are the conditions of which a request gets one, for ever.
var outcomes = []string{
	certificatesv1.PodCertificateRequestConditionTypeIssued,
	certificatesv1.PodCertificateRequestConditionTypeDenied,
	certificatesv1.PodCertificateRequestConditionTypeFailed,
}

func podRequestState(r podRequest) string {
	state := "Pending"
	for _, c := range r.Status.Conditions {
		if slices.Contains(outcomes, c.Type) {
			state = c.Type
		}
	}
	return state
}
