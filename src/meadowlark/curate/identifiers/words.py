"""Words that open with a capital and are neither a name nor a town."""

COMMON = frozenset(
    """The This That These Those There Then They He She It We You I In On At Of For From To And Or
    But If When While With Without After Before Was Is Are Has Had Have Will Can May Please Thank
    Thanks Dear Hello Hi Good No Not Yes Age Sex Male Female White Black African American Caucasian
    Asian Hispanic Latino Patient Patients Pt Doctor Doctors Nurse Hospital Clinic Medical Surgery
    Medicine Seuss Scholl Google House Who What Which How Why Where His Her Their My Your Our Its As
    By Be Denies Reports States Says Presents Presented Complains Name Note History Date Time Room
    Bed Unit Given Diagnosis Treatment Drug Drugs Blood Test Tests Type Group Class Grade Stage Day
    Days Week Month Year All Any Some None Other Most Many Also However Therefore Because Since
    Until Although Unknown Yes Left Right Both Upper Lower Acute Chronic Severe Mild Monday Tuesday
    Wednesday Thursday Friday Saturday Sunday January February March April June July August
    September October November December Admitted Discharged Seen Family Mother Father Home Care
    Health Emergency Department Office Consult Consulted Consulting Call Contact Ask Talk Speak See
    Visit Do Does Did Let Here Just So Such Okay Ok Oh Well Yeah Now Actually Alright Sure So Hmm Um
    Hey Great Right Hello Goodbye Bye Could Would Should Might Must Use Using Take Taking Give
    Increased Decreased Normal Abnormal Positive Negative""".split()
)

GIVEN = tuple(
    """Aaron Adam Agnes Alan Albert Alexander Alexandra Alfred Alice Alicia Amanda Amber Amy Andrea
    Andrew Angela Ann Anna Anne Annie Anthony Antonio Arthur Ashley Barbara Beatrice
    Benjamin Bernard Betty Beverly Bradley Brandon Brenda Brian Bruce Carl Carlos Carol
    Caroline Carolyn Catherine Charles Charlotte Cheryl Christina Christine Christopher
    Cynthia Daniel David Deborah Debra Denise Dennis Diana Diane Donald Donna Dorothy
    Douglas Edith Edward Edwin Eleanor Elizabeth Ellen Emily Emma Eric Ernest Ethel Eugene
    Eva Evelyn Frances Francis Frederick Gary George Gerald Gladys Gloria Gregory Hannah
    Harold Harriet Harry Heather Helen Henry Herbert Howard Irene Isabel Jacob Jacqueline
    James Jane Janet Janice Jason Jean Jeffrey Jennifer Jeremy Jessica Joan John Jonathan
    Jose Joseph Joshua Joyce Juan Judith Judy Julia Julie Justin Karen Katherine Kathleen
    Kathryn Keith Kelly Kenneth Kevin Kimberly Larry Laura Lauren Lawrence Leonard Linda
    Lisa Louis Louise Lucy Margaret Maria Marie Marilyn Martha Martin Mary Matthew Megan
    Melissa Michael Michelle Mildred Nancy Nathan Nicholas Nicole Nora Olivia Oscar Pamela
    Patricia Patrick Paul Peter Philip Rachel Ralph Raymond Rebecca Richard Robert Roger
    Ronald Rosemary Roy Russell Ruth Ryan Samantha Samuel Sandra Sarah Scott Sean Sharon
    Shirley Sophia Stephanie Stephen Steven Susan Teresa Theodore Theresa Thomas Timothy
    Tyler Victor Victoria Vincent Virginia Walter Wayne William Zachary""".split()
)
"""Given names that are no other word in English and no eponym alone."""
