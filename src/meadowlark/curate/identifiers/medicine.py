"""What medicine and research write in the forms of identifiers: codes of catalogues, citations,
public sources, measurements. Nothing here is ever an identifier, whatever stands in it."""

from __future__ import annotations

import re

_DOMAINS = (
    r"(?:[\w-]+\.)*(?:gov|mil|int|nhs\.uk|gov\.uk|europa\.eu|doi\.org|clinicaltrials\.gov|"
    r"cochrane\.org|cochranelibrary\.com|wikipedia\.org|wikidoc\.org|mayoclinic\.(?:org|com)|"
    r"clevelandclinic\.org|medscape\.com|uptodate\.com|nejm\.org|bmj\.com|thelancet\.com|"
    r"jamanetwork\.com|nature\.com|cancer\.(?:org|net)|heart\.org|diabetes\.org|aafp\.org|"
    r"nlm\.nih\.gov|kidshealth\.org|webmd\.com|familydoctor\.org|rarediseases\.org|orpha\.net)"
)
PROTECTED = re.compile(
    rf"""
    \b(?:https?://)?{_DOMAINS}\b(?:[/?\#][^\s]*)?                      # public sources of knowledge
    | \bdoi:?\s*10\.\S+ | \b10\.\d{{4,9}}/\S+
    | \b(?:19|20)\d\d(?:\s[A-Z][a-z]{{2,8}}\.?(?:[\s-]\d\d?)?)?
        \s?;\s?\d+(?:\(\w+\))?(?::\s?\w+(?:-\w+)?)?          # 2015 Nov 26;373(22):2103-16
    | \bNCT\d{{8}}\b | \bISRCTN\d+ | \bEudraCT\s?[\d-]+ | \bCTRI/[\d/]+ | \bACTRN\d+
    | \bPM(?:ID|CID)?:?\s?\d{{5,8}}\b | \bPMC\d+ | \bISBN(?:-1[03])?:?\s?[\dX-]+
    | \bISSN:?\s?[\dX-]+
    | \b(?:CAS|EC|NDC|LOINC|CPT|HCPCS|SNOMED(?:\sCT)?|RxCUI|RxNorm|ATC(?:C)?|MeSH|OMIM|MIM|ORPHA|
        HGNC|MedDRA|UniProt|PDB|ClinVar|DRG|CVX|ICD(?:-?(?:9|10|11|O))?(?:-(?:CM|PCS))?|UMLS|UNII|ChEBI|
        DrugBank|KEGG|dbSNP|GEO|GSE|GenBank|RefSeq|Ensembl|COSMIC|Cochrane|NICE|NG|TA|ISO|IEC|EN|CFR|
        USP|Patent|guideline)
        \s?(?:codes?|numbers?|nos?\.?|accession|registry|release)?\s?[:\#]?\s?(?=[\w.,/-]*\d)[\w.,/()-]+
        (?:,?\s(?:and\s|or\s)?(?=[\w.-]*\d)[A-Z]?\d[\w.-]*)*
    | \b(?:GenBank|GEO|GSE|RefSeq|SRA|ArrayExpress)\saccession\s\S+
    | \b(?:rs|ss)\d{{3,}}\b | \b[NX][MRPCGT]_\d+(?:\.\d+)? | \bENS[GTP]\d+ | \bCOSM\d+ | \bGSE\d+
    | \b[cgpmn]\.[A-Za-z(*-]?\d\w*[^\s,;]* | \bchr(?:[\dXY]+|omosome\s\w+):[\d,-]+
    | \bHLA-\S+ | \bATCC\s?\d+
    | \b(?:[Vv]ersions?|[Rr]elease|[Ss]ections?|[Cc]hapters?|[Pp]aragraphs?|[Vv]\.?|[Bb]uild)
        \s?\d+(?:\.\d+)+
    | \b1-800-222-1222\b | \b1-800-273-8255\b | \b1-800-232-4636\b | \b1-800-662-4357\b
    | \b1-800-(?:4-CANCER|CDC-INFO|FDA-1088)\b | \b1-800-332-1088\b
    """,
    re.X,
)
"""Codes of catalogues, citations and public addresses: never an identifier, whatever stands in
them."""

UNIT = (
    r"(?:\s?(?:%|‰|°|µ|μ|×|x\s?\d|[mkµμn]?g\b|mcg\b|m?[lL]\b|dL\b|IU\b|U\b|units?\b|mEq|mmol|"
    r"mol\b|mm|cm|"
    r"kPa|Hz|Gy|mSv|copies|cells|tab(?:let)?s?\b|caps|puffs?\b|drops?\b|doses?\b|days?\b|d\b|"
    r"weeks?\b|"
    r"wks?\b|months?\b|mo\b|years?\b|yrs?\b|hours?\b|hrs?\b|h\b|min(?:ute)?s?\b|sec|s\b|beats|bpm|"
    r"patients|subjects|participants|women|men|children|points?\b|ppm|protein|sessions))"
)
NOT_UNIT = rf"(?!{UNIT})"
