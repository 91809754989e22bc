package api

import (
	"net/http"
	"strings"
)

// VolumeSize is how large the volume of a unit is to be, or is. In a request 0 means: as large as its
// device is now.
type VolumeSize struct {
	SizeBytes int64 `json:"sizeBytes"`
}

// maxUnitID bounds what is taken for the id of a unit.
const maxUnitID = 36

// prepareGrowVolume enlarges the volume of the unit in a path units/{id}/volume.
func (s *Server) prepareGrowVolume(r *http.Request, parameters map[string]string) (prepared, error) {
	unit := strings.Split(strings.TrimPrefix(r.URL.Path, ownPath), "/")[1]
	if unit == "" || len(unit) > maxUnitID {
		return nil, badRequest("%q is not the id of a unit", clip(unit))
	}
	parameters["unit"] = unit
	var request VolumeSize
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	if request.SizeBytes < 0 {
		return nil, badRequest("a volume of %d bytes is not possible", request.SizeBytes)
	}
	return func(r *http.Request) (int, any, error) {
		sizeBytes, err := s.o.Backend.GrowVolume(r.Context(), unit, request.SizeBytes)
		return http.StatusOK, VolumeSize{sizeBytes}, err
	}, nil
}

// NoUnit says that there is no such unit here.
func NoUnit(id string) *Error {
	return &Error{Status: http.StatusNotFound, Code: "UnitNotFound", Message: "Unit '" + clip(id) + "' does not exist."}
}

// CannotGrow says why a volume can't be enlarged so far.
func CannotGrow(why string) *Error {
	return &Error{Status: http.StatusConflict, Code: "VolumeCannotGrow", Message: "The volume can't grow: " + why + "."}
}
