package main

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	authenticationapi "k8s.io/kubernetes/pkg/apis/authentication"
	_ "k8s.io/kubernetes/pkg/apis/authentication/install"
	authorizationapi "k8s.io/kubernetes/pkg/apis/authorization"
	_ "k8s.io/kubernetes/pkg/apis/authorization/install"
	authorizationvalidation "k8s.io/kubernetes/pkg/apis/authorization/validation"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/certificates/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	coreapi "k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/events/install"
	_ "k8s.io/kubernetes/pkg/apis/flowcontrol/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/node/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/resource/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"
	_ "k8s.io/kubernetes/pkg/apis/storagemigration/install"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingadmissionpolicybinding"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicybinding"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/apps/controllerrevision"
	"k8s.io/kubernetes/pkg/registry/apps/daemonset"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/replicaset"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/autoscaling/horizontalpodautoscaler"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	"k8s.io/kubernetes/pkg/registry/certificates/certificates"
	"k8s.io/kubernetes/pkg/registry/certificates/clustertrustbundle"
	"k8s.io/kubernetes/pkg/registry/certificates/podcertificaterequest"
	"k8s.io/kubernetes/pkg/registry/coordination/lease"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/endpoint"
	"k8s.io/kubernetes/pkg/registry/core/event"
	"k8s.io/kubernetes/pkg/registry/core/limitrange"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/node"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolume"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/podtemplate"
	"k8s.io/kubernetes/pkg/registry/core/replicationcontroller"
	"k8s.io/kubernetes/pkg/registry/core/resourcequota"
	"k8s.io/kubernetes/pkg/registry/core/secret"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	"k8s.io/kubernetes/pkg/registry/discovery/endpointslice"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/flowschema"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/prioritylevelconfiguration"
	"k8s.io/kubernetes/pkg/registry/networking/ingress"
	"k8s.io/kubernetes/pkg/registry/networking/ingressclass"
	"k8s.io/kubernetes/pkg/registry/networking/ipaddress"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/networking/servicecidr"
	"k8s.io/kubernetes/pkg/registry/node/runtimeclass"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrole"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrolebinding"
	"k8s.io/kubernetes/pkg/registry/rbac/role"
	"k8s.io/kubernetes/pkg/registry/rbac/rolebinding"
	"k8s.io/kubernetes/pkg/registry/resource/deviceclass"
	"k8s.io/kubernetes/pkg/registry/resource/devicetaintrule"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaim"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaimtemplate"
	"k8s.io/kubernetes/pkg/registry/resource/resourceslice"
	"k8s.io/kubernetes/pkg/registry/scheduling/priorityclass"
	"k8s.io/kubernetes/pkg/registry/storage/csidriver"
	"k8s.io/kubernetes/pkg/registry/storage/csinode"
	"k8s.io/kubernetes/pkg/registry/storage/csistoragecapacity"
	"k8s.io/kubernetes/pkg/registry/storage/storageclass"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattachment"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattributesclass"
	"k8s.io/kubernetes/pkg/registry/storagemigration/storagemigration"
)

// kinds are all that are judged, by the rules of the registry that upstream serves each from.
var kinds = map[schema.GroupKind]rules{
	{Group: "", Kind: "ConfigMap"}:                                                  plain(configmap.Strategy),
	{Group: "", Kind: "Endpoints"}:                                                  plain(endpoint.Strategy),
	{Group: "", Kind: "Event"}:                                                      plain(event.Strategy),
	{Group: "", Kind: "LimitRange"}:                                                 plain(limitrange.Strategy),
	{Group: "", Kind: "Namespace"}:                                                  withStatus(namespace.Strategy, namespace.StatusStrategy).with("finalize", namespace.FinalizeStrategy),
	{Group: "", Kind: "Node"}:                                                       withStatus(node.Strategy, node.StatusStrategy),
	{Group: "", Kind: "PersistentVolumeClaim"}:                                      withStatus(persistentvolumeclaim.Strategy, persistentvolumeclaim.StatusStrategy),
	{Group: "", Kind: "PersistentVolume"}:                                           withStatus(persistentvolume.Strategy, persistentvolume.StatusStrategy),
	{Group: "", Kind: "Pod"}:                                                        withStatus(pod.Strategy, pod.StatusStrategy).with("ephemeralcontainers", pod.EphemeralContainersStrategy).with("resize", pod.ResizeStrategy),
	{Group: "", Kind: "PodTemplate"}:                                                plain(podtemplate.Strategy),
	{Group: "", Kind: "ReplicationController"}:                                      withStatus(replicationcontroller.Strategy, replicationcontroller.StatusStrategy),
	{Group: "", Kind: "ResourceQuota"}:                                              withStatus(resourcequota.Strategy, resourcequota.StatusStrategy),
	{Group: "", Kind: "Secret"}:                                                     plain(secret.Strategy),
	{Group: "", Kind: "ServiceAccount"}:                                             plain(serviceaccount.Strategy),
	{Group: "", Kind: "Service"}:                                                    withStatus(service.Strategy, service.StatusStrategy),
	{Group: "apps", Kind: "Deployment"}:                                             withStatus(deployment.Strategy, deployment.StatusStrategy),
	{Group: "apps", Kind: "ReplicaSet"}:                                             withStatus(replicaset.Strategy, replicaset.StatusStrategy),
	{Group: "apps", Kind: "DaemonSet"}:                                              withStatus(daemonset.Strategy, daemonset.StatusStrategy),
	{Group: "apps", Kind: "StatefulSet"}:                                            withStatus(statefulset.Strategy, statefulset.StatusStrategy),
	{Group: "apps", Kind: "ControllerRevision"}:                                     plain(controllerrevision.Strategy),
	{Group: "batch", Kind: "Job"}:                                                   withStatus(job.Strategy, job.StatusStrategy),
	{Group: "batch", Kind: "CronJob"}:                                               withStatus(cronjob.Strategy, cronjob.StatusStrategy),
	{Group: "events.k8s.io", Kind: "Event"}:                                         plain(event.Strategy),
	{Group: "certificates.k8s.io", Kind: "CertificateSigningRequest"}:               withStatus(certificates.Strategy, certificates.StatusStrategy).with("approval", certificates.ApprovalStrategy),
	{Group: "certificates.k8s.io", Kind: "ClusterTrustBundle"}:                      plain(clustertrustbundle.Strategy),
	{Group: "policy", Kind: "PodDisruptionBudget"}:                                  withStatus(poddisruptionbudget.Strategy, poddisruptionbudget.StatusStrategy),
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}:                       plain(clusterrole.Strategy),
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}:                plain(clusterrolebinding.Strategy),
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}:                              plain(role.Strategy),
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}:                       plain(rolebinding.Strategy),
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:                             plain(priorityclass.Strategy),
	{Group: "coordination.k8s.io", Kind: "Lease"}:                                   plain(lease.Strategy),
	{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:                              plain(endpointslice.Strategy),
	{Group: "flowcontrol.apiserver.k8s.io", Kind: "FlowSchema"}:                     withStatus(flowschema.Strategy, flowschema.StatusStrategy),
	{Group: "flowcontrol.apiserver.k8s.io", Kind: "PriorityLevelConfiguration"}:     withStatus(prioritylevelconfiguration.Strategy, prioritylevelconfiguration.StatusStrategy),
	{Group: "networking.k8s.io", Kind: "Ingress"}:                                   withStatus(ingress.Strategy, ingress.StatusStrategy),
	{Group: "networking.k8s.io", Kind: "IngressClass"}:                              plain(ingressclass.Strategy),
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:                             plain(networkpolicy.Strategy),
	{Group: "networking.k8s.io", Kind: "IPAddress"}:                                 plain(ipaddress.Strategy),
	{Group: "networking.k8s.io", Kind: "ServiceCIDR"}:                               withStatus(servicecidr.Strategy, servicecidr.StatusStrategy),
	{Group: "node.k8s.io", Kind: "RuntimeClass"}:                                    plain(runtimeclass.Strategy),
	{Group: "storage.k8s.io", Kind: "CSIDriver"}:                                    plain(csidriver.Strategy),
	{Group: "storage.k8s.io", Kind: "CSINode"}:                                      withStatus(csinode.Strategy, csinode.StatusStrategy),
	{Group: "storage.k8s.io", Kind: "CSIStorageCapacity"}:                           plain(csistoragecapacity.Strategy),
	{Group: "storage.k8s.io", Kind: "StorageClass"}:                                 plain(storageclass.Strategy),
	{Group: "storage.k8s.io", Kind: "VolumeAttachment"}:                             withStatus(volumeattachment.Strategy, volumeattachment.StatusStrategy),
	{Group: "storage.k8s.io", Kind: "VolumeAttributesClass"}:                        plain(volumeattributesclass.Strategy),
	{Group: "resource.k8s.io", Kind: "DeviceClass"}:                                 plain(deviceclass.Strategy),
	{Group: "resource.k8s.io", Kind: "DeviceTaintRule"}:                             withStatus(devicetaintrule.Strategy, devicetaintrule.StatusStrategy),
	{Group: "resource.k8s.io", Kind: "ResourceSlice"}:                               plain(resourceslice.Strategy),
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:                         withStatus(horizontalpodautoscaler.Strategy, horizontalpodautoscaler.StatusStrategy),
	{Group: "storagemigration.k8s.io", Kind: "StorageVersionMigration"}:             withStatus(storagemigration.Strategy, storagemigration.StatusStrategy),
	{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:   plain(mutatingwebhookconfiguration.Strategy),
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}: plain(validatingwebhookconfiguration.Strategy),
	{Group: "certificates.k8s.io", Kind: "PodCertificateRequest"}: withStatus(podcertificaterequest.NewStrategy(),
		podcertificaterequest.NewStatusStrategy(podcertificaterequest.NewStrategy(), allowAll{}, clock)),
	{Group: "resource.k8s.io", Kind: "ResourceClaim"}: withStatus(resourceclaim.NewStrategy(namespaces{}, allowAll{}),
		resourceclaim.NewStatusStrategy(resourceclaim.NewStrategy(namespaces{}, allowAll{}))),
	{Group: "resource.k8s.io", Kind: "ResourceClaimTemplate"}: plain(resourceclaimtemplate.NewStrategy(namespaces{})),
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}: withStatus(validatingadmissionpolicy.NewStrategy(allowAll{}, resources),
		validatingadmissionpolicy.NewStatusStrategy(validatingadmissionpolicy.NewStrategy(allowAll{}, resources))),
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicy"}:          plain(mutatingadmissionpolicy.NewStrategy(allowAll{}, resources)),
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}: plain(validatingadmissionpolicybinding.NewStrategy(allowAll{}, policies{}, resources)),
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicyBinding"}:   plain(mutatingadmissionpolicybinding.NewStrategy(allowAll{}, policies{}, resources)),
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}:                 customDefinitions(),
	{Group: "apiregistration.k8s.io", Kind: "APIService"}:                             apiServices(),
	{Kind: "Binding"}: {check: func(o runtime.Object) error {
		return invalid("Binding", corevalidation.ValidatePodBinding(o.(*coreapi.Binding)))
	}},
	{Group: "authorization.k8s.io", Kind: "SubjectAccessReview"}: {check: func(o runtime.Object) error {
		return invalid("SubjectAccessReview", authorizationvalidation.ValidateSubjectAccessReview(o.(*authorizationapi.SubjectAccessReview)))
	}},
	{Group: "authorization.k8s.io", Kind: "SelfSubjectAccessReview"}: {check: func(o runtime.Object) error {
		return invalid("SelfSubjectAccessReview", authorizationvalidation.ValidateSelfSubjectAccessReview(o.(*authorizationapi.SelfSubjectAccessReview)))
	}},
	{Group: "authorization.k8s.io", Kind: "LocalSubjectAccessReview"}: {check: func(o runtime.Object) error {
		return invalid("LocalSubjectAccessReview", authorizationvalidation.ValidateLocalSubjectAccessReview(o.(*authorizationapi.LocalSubjectAccessReview)))
	}},
	{Group: "authorization.k8s.io", Kind: "SelfSubjectRulesReview"}: {check: func(o runtime.Object) error {
		if o.(*authorizationapi.SelfSubjectRulesReview).Spec.Namespace == "" {
			return apierrors.NewBadRequest("no namespace on request")
		}
		return nil
	}},
	{Group: "authentication.k8s.io", Kind: "SelfSubjectReview"}: {check: func(runtime.Object) error { return nil }},
	{Group: "authentication.k8s.io", Kind: "TokenReview"}: {check: func(o runtime.Object) error {
		if o.(*authenticationapi.TokenReview).Spec.Token == "" {
			return apierrors.NewBadRequest("token is required for TokenReview in authentication")
		}
		return nil
	}},
}
