package api

import (
	"math"
	"time"

	"github.com/nfseal/nfseal/appliance/kms"
)

// How long imported material stays.
const (
	materialExpires = "KEY_MATERIAL_EXPIRES"
	materialStays   = "KEY_MATERIAL_DOES_NOT_EXPIRE"
)

// importConditions are the condition keys of the two operations that import material.
func (in *KMSRequest) importConditions() map[string][]string {
	more := make(map[string][]string)
	for name, value := range map[string]string{
		"kms:WrappingAlgorithm": in.WrappingAlgorithm, "kms:WrappingKeySpec": in.WrappingKeySpec, "kms:ExpirationModel": in.ExpirationModel,
	} {
		if value != "" {
			more[name] = []string{clip(value)}
		}
	}
	if in.ImportToken != nil && in.ExpirationModel == "" {
		more["kms:ExpirationModel"] = []string{materialExpires}
	}
	if at, err := in.validTo(); err == nil && !at.IsZero() {
		more["kms:ValidTo"] = []string{at.Format(time.RFC3339)}
	}
	return more
}

// validTo is when material is to be deleted; zero: never.
func (in *KMSRequest) validTo() (time.Time, error) {
	if in.ValidTo == nil {
		return time.Time{}, nil
	}
	const year9999 = 253402300799
	if s := *in.ValidTo; math.IsNaN(s) || s < 0 || s > year9999 {
		return time.Time{}, invalid("ValidTo is no time")
	}
	return time.UnixMilli(int64(*in.ValidTo * 1000)).UTC(), nil
}

// addImport says of an external key whether its material is there, and for how long.
func addImport(m values, k *kms.Key) {
	m["Origin"] = kms.OriginExternal
	switch {
	case !k.HasMaterial():
	case k.ValidTo.IsZero():
		m["ExpirationModel"] = materialStays
	default:
		m["ExpirationModel"], m["ValidTo"] = materialExpires, seconds(k.ValidTo)
	}
}

func parametersForImport(c *kmsCall) (any, error) {
	p, err := c.keys.ParametersForImport(c.ctx, c.key, c.in.WrappingAlgorithm, c.in.WrappingKeySpec)
	if err != nil {
		return nil, err
	}
	return values{
		"KeyId": c.keys.ARN(c.key.ID), "ImportToken": p.Token, "PublicKey": p.PublicKey, "ParametersValidTo": seconds(p.ValidTo),
	}, nil
}

func importMaterial(c *kmsCall) (any, error) {
	in := &c.in
	if in.ImportType != "" && in.ImportType != "EXISTING_KEY_MATERIAL" || in.KeyMaterialID != "" {
		return nil, unsupported("an external key has one material: ImportType must be EXISTING_KEY_MATERIAL, and KeyMaterialId is not known")
	}
	switch {
	case in.ExpirationModel != "" && in.ExpirationModel != materialExpires && in.ExpirationModel != materialStays:
		return nil, invalid("ExpirationModel must be " + materialExpires + " or " + materialStays)
	case (in.ExpirationModel == materialStays) == (in.ValidTo != nil):
		return nil, invalid("ValidTo is needed with ExpirationModel " + materialExpires + ", the default, and is not allowed with " + materialStays)
	}
	validTo, err := in.validTo()
	if err != nil {
		return nil, err
	}
	key, err := c.keys.Import(c.ctx, c.key.ID, in.ImportToken, in.EncryptedKeyMaterial, validTo)
	return values{"KeyId": c.keys.ARN(key.ID)}, err
}

func deleteMaterial(c *kmsCall) (any, error) {
	key, err := c.keys.DeleteMaterial(c.ctx, c.key.ID)
	return values{"KeyId": c.keys.ARN(key.ID)}, err
}
