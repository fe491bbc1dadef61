"""Takes results out of the device, once each and whole: to a hub, a FHIR server, an HL7 v2 receiver or a folder."""
