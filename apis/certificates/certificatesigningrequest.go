package certificates

import (
	"context"
	"reflect"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// shown are the descriptions of the columns, which are those of the first version.
var shown = certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()

type request = *certificatesv1.CertificateSigningRequest

// CertificateSigningRequests ask for a certificate of one of the cluster's signers.
var CertificateSigningRequests = api.Define(api.Resource[request]{
	Group: certificatesv1.GroupName, Version: "v1", Kind: "CertificateSigningRequest", Plural: "certificatesigningrequests",
	Short: []string{"csr"}, UnconditionalUpdate: true,
	HasStatus:      true,
	Unowned:        map[string][]string{"": {"spec", "status"}, "status": {"spec", "status.conditions"}, "approval": {"spec", "status.certificate"}},
	ValidateName:   path.ValidatePathSegmentName, // any name that fits into a URL
	PrepareUpdate:  func(_ context.Context, r, old request) { r.Spec = *old.Spec.DeepCopy() },
	Validate:       validateRequest,
	ValidateUpdate: validateRequestUpdate,
	PrepareStatus:  prepareStatus,
	ValidateStatus: validateStatus,
	Updates: []api.Update[request]{{
		Name: "approval", Apply: applyApproval, Validate: validateApproval,
	}},
	Columns: []api.Column[request]{
		{Name: "Age", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"], Value: age},
		{Name: "SignerName", Description: shown["signerName"], Value: func(r request) any { return r.Spec.SignerName }},
		{Name: "Requestor", Description: shown["request"], Value: func(r request) any { return r.Spec.Username }},
		{Name: "RequestedDuration", Description: shown["expirationSeconds"], Value: requested},
		{Name: "Condition", Description: "Conditions applied to the request, such as approval or denial.", Value: condition},
	},
	Fields: map[string]func(request) string{
		"spec.signerName": func(r request) string { return r.Spec.SignerName },
	},
})

func age(r request) any {
	if r.CreationTimestamp.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(r.CreationTimestamp.Time))
}

func requested(r request) any {
	if r.Spec.ExpirationSeconds == nil {
		return "<none>"
	}
	return duration.HumanDuration(time.Duration(*r.Spec.ExpirationSeconds) * time.Second)
}

// condition is Approved, Denied or Pending, then what came of it.
func condition(r request) any {
	approved, denied, failed := false, false, false
	for _, c := range r.Status.Conditions {
		approved = approved || c.Type == certificatesv1.CertificateApproved
		denied = denied || c.Type == certificatesv1.CertificateDenied
		failed = failed || c.Type == certificatesv1.CertificateFailed
	}
	out := ""
	switch {
	case denied:
		out += "Denied"
	case approved:
		out += "Approved"
	default:
		out += "Pending"
	}
	if failed {
		out += ",Failed"
	}
	if len(r.Status.Certificate) > 0 {
		out += ",Issued"
	}
	return out
}

// decisions are what only the approval subresource may write.
var decisions = []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied}

func decision(t certificatesv1.RequestConditionType) bool { return slices.Contains(decisions, t) }

// applyApproval keeps everything but the conditions.
func applyApproval(_ context.Context, r, old request) {
	r.Spec = *old.Spec.DeepCopy()
	r.Status.Certificate = old.Status.Certificate
	stamp(r.Status.Conditions, old.Status.Conditions)
}

// prepareStatus keeps Approved and Denied as they were stored. To add or take one away is left to be refused.
func prepareStatus(r, old request) {
	for _, t := range decisions {
		if count(r, t) != count(old, t) {
			continue
		}
		was := old.Status.Conditions
		for i := range r.Status.Conditions {
			if r.Status.Conditions[i].Type != t {
				continue
			}
			for was[0].Type != t {
				was = was[1:]
			}
			r.Status.Conditions[i], was = was[0], was[1:]
		}
	}
	stamp(r.Status.Conditions, old.Status.Conditions)
}

// stamp sets the times that were left out.
func stamp(conditions, old []certificatesv1.CertificateSigningRequestCondition) {
	now := metav1.Now()
	for i := range conditions {
		c := &conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, o := range old {
			if o.Type == c.Type && o.Status == c.Status && !o.LastTransitionTime.IsZero() {
				c.LastTransitionTime = o.LastTransitionTime
			}
		}
	}
}

func sameSpec(r, old request) field.ErrorList {
	if reflect.DeepEqual(r.Spec, old.Spec) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec"), r.Spec, "field is immutable")}
}
